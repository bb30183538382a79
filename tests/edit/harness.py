"""A fake denoiser, loops whose results tell what they were sent, and a batcher driven turn by turn."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batcher import Batcher
from families.interface import Loop, Plan, Step, Tensors
from jobs import Job, Request, StoppingError
from rows import Denoiser, JoinedRows
from side_by_side import SideBySide

TOKENS = 4


class Metrics:
    """Keeps what the batcher reports."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.calls: list[tuple[int, int]] = []
        self.stages: Counter[str] = Counter()
        self.now = (0, 0)
        self.published = 0

    def in_flight(self, active: int, waiting: int) -> None:
        self.now = (active, waiting)

    def call(self, rows: int, edits: int, began: float, ended: float) -> None:
        self.calls.append((rows, edits))

    def turn(self, began: float, ended: float) -> None:
        pass

    def stage(self, name: str, seconds: float) -> None:
        self.stages[name] += seconds

    def left(self, outcome: str, edits: int = 1) -> None:
        self.outcomes[outcome] += edits

    def publish(self) -> None:
        self.published += 1


class Intake:
    """Open until it is told otherwise, and whether it was told that edits are in flight."""

    def __init__(self) -> None:
        self.open, self.held = True, False

    def enter(self) -> None:
        if not self.open:
            raise StoppingError("the server is stopping")
        self.held = True

    def leave(self) -> None:
        self.held = False


COLUMNS = {"square": 2, "wide": 4, "later": 5, "tall": 6}
"""Of the text of edits whose shapes are so called: those of different ones share no calls."""


def count_steps(latents: float, steps: int, rows: int, fail_at: int | None = None) -> Loop:
    """A loop whose result tells which predictions it was sent: each step adds the mean of its own rows."""
    for step in range(steps):
        if step == fail_at:
            raise ArithmeticError("this edit's own fault")
        sample, timestep = np.full((rows, 1), latents + step), np.full((rows, 1), float(step))
        prediction = yield Step({"sample": sample, "timestep": timestep})
        latents += float(prediction.mean())
    return {"latents": np.array([latents])}


def plan(
    tag: float, steps: int, *, rows: int = 1, shape: str = "square", fail_at: int | None = None, tokens: int = TOKENS
) -> Plan:
    constant = {"text": np.full((rows, COLUMNS[shape]), tag)}
    return Plan(constant, count_steps(tag, steps, rows, fail_at), tokens, steps, (2, 0, tokens))


def one(
    prepare: Callable[[], Plan], finish: Callable[[Tensors], Any], failed: Callable[[Exception], Any], **options: Any
) -> tuple[Request, list[Job]]:
    """A request of one picture, whatever else it is made with."""
    request = Request(lambda: [prepare()], failed, **options)
    return request, [Job(request, lambda done, _: finish(done))]


def denoiser(rows: Tensors) -> NDArray[Any]:
    """Rows do not influence one another; every input does."""
    result: NDArray[Any] = rows["sample"] * 0.5 + rows["timestep"] + rows["text"][:, :1]
    return result


class Here(Executor):
    """Workers that do everything at once, on the caller's thread."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> "Future[Any]":
        work(*arguments, **named)
        return Future()


class Later(Executor):
    """Workers that begin nothing until they are told to."""

    def __init__(self) -> None:
        self._kept: list[Callable[[], Any]] = []

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> "Future[Any]":
        self._kept.append(lambda: work(*arguments, **named))
        return Future()

    def begin(self) -> None:
        while self._kept:
            self._kept.pop(0)()


class Harness:
    """A batcher driven turn by turn, and what came of its jobs."""

    def __init__(
        self,
        denoise: Callable[[Tensors], NDArray[Any]] = denoiser,
        max_rows: int = 8,
        max_jobs: int = 16,
        max_tokens: int = 8 * TOKENS,
        preparers: Executor | None = None,
        *,
        padded: Sequence[str] = (),
        around: Callable[[Denoiser], Denoiser] = lambda denoiser: denoiser,
        side_by_side: SideBySide | None = None,
    ) -> None:
        self.metrics, self.intake = Metrics(), Intake()
        self.clock = 0.0
        self.results: dict[str, Any] = {}
        self.batcher = Batcher(
            around(JoinedRows(denoise)),
            max_rows=max_rows,
            max_tokens=max_tokens,
            max_jobs=max_jobs,
            metrics=self.metrics,
            intake=self.intake,
            preparers=preparers or Here(),
            answerers=Here(),
            padded=padded,
            side_by_side=side_by_side,
            clock=lambda: self.clock,
        )

    def submit(self, name: str, plan: Plan, **options: Any) -> None:
        def answer(value: Any) -> None:
            assert name not in self.results, "answered twice"
            self.results[name] = value

        self.batcher.submit(*one(lambda: plan, answer, answer, **options))

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.batcher.ask()
            self.batcher.turn()
