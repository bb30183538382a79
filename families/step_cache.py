"""Step caching: what changes steadily from step to step is foretold from the steps before, rather than computed.

It stands between a plan's loop and the denoiser, and knows no family. Two things are foretold, each along the straight
line through the last two that were computed, as multistep solvers do it (Adams and Bashforth):

- a whole prediction: the step then has no call at all. (As TeaCache, Liu et al., 2024, which has the model's first
  blocks say when. Here an engine is whole and says nothing: a line is trusted that has just been right.)
- guidance, how far the predictions of a step's other rows are from that of its first, the one with the prompt: the
  call then has that row alone. (As FasterCache, Lv et al., 2024.)
"""

from collections.abc import Generator
from dataclasses import replace
from typing import Final

import numpy as np

from families.interface import Array, Loop, Plan, Step, Tensors

OFF: Final = "off"
BALANCED: Final = "balanced"
CACHES: Final = (OFF, BALANCED)

FEWEST_STEPS: Final = 12
"""Of an edit that has steps to spare: of a distilled model's every one counts."""
COMPUTED: Final = 0.2
"""The share of an edit's steps, its first, that are computed: they lay the picture out. So is the last one."""
TURNS: Final = ("nothing", "prompt", "nothing", "all")
"""What is computed of the steps between, over and over, for as long as the lines are right; else all of it."""
TOLERANCE: Final = 0.1
"""How far, relative and by root mean squares, a prediction that was computed may be off the line for another to be
foretold: that is of a step nearer by."""
GUIDANCE_TOLERANCE: Final = 0.005
"""The same of guidance, as a share of the whole prediction: guidance scales multiply it. Both are such that the flow of
Gaussian data, which is exactly known, ends nearer to what all steps give than as much work in fewer steps does."""


def cached(plan: Plan, cache: str) -> Plan:
    """The plan by one of CACHES: with "balanced" its loop wants fewer rows and calls, unless it has few steps."""
    if cache == OFF or plan.steps < FEWEST_STEPS:
        return plan
    return replace(plan, loop=_Saving(plan).loop(plan.loop))


def constant_of(plan: Plan, step: Step) -> dict[str, Array]:
    """The plan's `constant`, of the rows that a step with inputs has."""
    rows = len(next(iter(step.inputs.values())))
    return {name: array[:rows] for name, array in plan.constant.items()}


class Line:
    """The straight line through the last two of some arrays of one shape, over the steps that they are of."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._known: list[tuple[int, Array]] = []
        self.right = False
        """Whether the last array was where the line through those before has it."""

    def add(self, step: int, array: Array, scale: Array) -> None:
        """One more, which stays as it is. What it may be off is told as a share of `scale`."""
        if len(self._known) == 2:
            off = float(np.linalg.norm(array - self.at(step)))
            self.right = array.size > 0 and off <= self._tolerance * float(np.linalg.norm(scale))
        self._known = [*self._known[-1:], (step, array)]

    def at(self, step: int) -> Array:
        """Where it is at a step, once there are two."""
        (before, earlier), (last, latest) = self._known
        slope = np.float32((step - last) / (last - before))
        found: Array = latest + slope * (latest - earlier)
        return found


class _Saving:
    """Of one edit's loop."""

    def __init__(self, plan: Plan) -> None:
        self._steps, self._first = plan.steps, round(COMPUTED * plan.steps)
        self._padded = {name for names in plan.padded.values() for name in names}
        self._predictions, self._guidance = Line(TOLERANCE), Line(GUIDANCE_TOLERANCE)

    def loop(self, loop: Loop) -> Loop:
        """The loop, whose predictions are foretold where they can be."""
        try:
            step = next(loop)
            for place in range(self._steps):
                step = loop.send((yield from self._prediction(step, place)))
        except StopIteration as finished:
            made: Tensors = finished.value
            return made
        raise RuntimeError(f"the loop has more than its {self._steps} steps")

    def _prediction(self, step: Step, place: int) -> Generator[Step, Array, Array]:
        turn = self._turn(place)
        if turn == "nothing":
            yield Step({}, step.preview)
            return self._predictions.at(place)
        if turn == "prompt":
            only = Step({name: array[:1] for name, array in step.inputs.items()}, step.preview)
            of_prompt = self._own((yield only), step)
            made: Array = np.concatenate([of_prompt, of_prompt + self._guidance.at(place)])
        else:
            made = self._own((yield step), step).copy()
            self._guidance.add(place, made[1:] - made[:1], made)
        self._predictions.add(place, made, made)
        return made

    def _own(self, prediction: Array, step: Step) -> Array:
        """What of a prediction is the edit's: behind it stands what pads it to the length of others in its call."""
        lengths = [array.shape[1] for name, array in step.inputs.items() if name in self._padded]
        return prediction[:, : lengths[0]] if lengths else prediction

    def _turn(self, place: int) -> str:
        """What is computed of a step."""
        between = place - self._first
        if not self._predictions.right or between < 0 or place == self._steps - 1:
            return "all"
        turn = TURNS[between % len(TURNS)]
        return "all" if turn == "prompt" and not self._guidance.right else turn
