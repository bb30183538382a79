"""Step caching with a denoiser that is exactly known: that of Gaussian data, which flows from noise to a mean."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from families.alone import denoise_alone
from families.interface import Array, Loop, Plan, Step, Tensors
from families.step_cache import BALANCED, FEWEST_STEPS, OFF, cached, constant_of

MEANS = np.random.default_rng(1).uniform(-1, 1, (3, 64)).astype(np.float32)
"""Of what each row of a call knows: prompt and picture, picture, neither."""
NOISE = np.random.default_rng(2).normal(size=(1, 64)).astype(np.float32)
SPREAD = 0.1
"""Of the data around its mean."""
WEIGHTS = np.array([[5.0], [-2.5], [-1.5]], np.float32)


class Denoiser:
    """Predicts the velocity, and keeps how many rows it was asked for."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, inputs: Tensors) -> Array:
        sigma, mean = inputs["timestep"], inputs["mean"]
        self.rows.append(len(mean))
        signal = 1 - sigma
        share = signal * SPREAD**2 / (signal**2 * SPREAD**2 + sigma**2)
        clean = mean + share * (inputs["sample"] - signal * mean)
        velocity: Array = (inputs["sample"] - clean) / sigma
        return velocity


class Restless(Denoiser):
    """Each prediction is another than the one before it."""

    def __call__(self, inputs: Tensors) -> Array:
        return super().__call__(inputs) * np.float32(1 + 0.5 * (len(self.rows) % 2))


class Straight(Denoiser):
    """Predictions lie on a line."""

    def __call__(self, inputs: Tensors) -> Array:
        self.rows.append(len(inputs["mean"]))
        velocity: Array = inputs["timestep"] + inputs["mean"]
        return velocity


def euler(steps: int, rows: int) -> Loop:
    """From noise along the rows' predictions, weighed as guidance does."""
    sigmas = np.linspace(1, 0, steps + 1, dtype=np.float32)
    weights = WEIGHTS[:rows] / WEIGHTS[:rows].sum()
    latents = NOISE
    for sigma, following in pairwise(sigmas):
        inputs = {"sample": np.repeat(latents, rows, 0), "timestep": np.full((rows, 1), sigma)}
        prediction = yield Step(inputs, lambda: {"latents": latents})  # noqa: B023 - it is right until the loop goes on
        latents = latents + (following - sigma) * (prediction * weights).sum(0, keepdims=True)
    return {"latents": latents}


def plan(steps: int, rows: int) -> Plan:
    return Plan({"mean": MEANS[:rows]}, euler(steps, rows), 64, steps, (0, 0, 64))


def made(steps: int, rows: int, cache: str, denoiser: Denoiser | None = None) -> tuple[Array, list[int]]:
    """The latents, and the rows of each call."""
    asked = denoiser or Denoiser()
    return denoise_alone(cached(plan(steps, rows), cache), asked)["latents"], asked.rows


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("steps", [FEWEST_STEPS, 20, 50])
def test_what_is_foretold_is_near_what_is_computed(steps: int, rows: int) -> None:
    exact, whole = made(steps, rows, OFF)
    ours, asked = made(steps, rows, BALANCED)
    assert whole == [rows] * steps
    assert sum(asked) < (0.9 if steps == FEWEST_STEPS else 0.65) * sum(whole)
    error = float(np.sqrt(np.mean((ours - exact) ** 2)))
    assert error < 10 ** (-46 / 20), "46 dB, in a range of 1"
    fewer, _ = made(round(steps * sum(asked) / sum(whole)), rows, OFF)
    assert error < float(np.sqrt(np.mean((fewer - exact) ** 2))), "as much work in fewer steps is farther off"


def test_the_first_steps_and_the_last_are_computed_and_others_where_they_must_be() -> None:
    asked = made(50, 3, BALANCED)[1]
    assert asked[:10] == [3] * 10
    assert asked[10:12] == [1, 3], "of what is a step apart"
    assert asked[-1] == 3
    assert made(50, 1, BALANCED)[1] == [1] * 31


def test_what_lies_on_a_line_has_this_many_rows() -> None:
    assert made(20, 3, BALANCED, Straight())[1] == [3, 3, 3, 3, 1, 3, 1, 3, 1, 3, 1, 3]


def test_of_few_steps_every_one_is_computed() -> None:
    for steps in (1, 4, 8, FEWEST_STEPS - 1):
        ours, asked = made(steps, 2, BALANCED)
        assert asked == [2] * steps
        assert np.array_equal(ours, made(steps, 2, OFF)[0])


@pytest.mark.parametrize("rows", [1, 3])
def test_what_cannot_be_foretold_is_computed(rows: int) -> None:
    ours, asked = made(20, rows, BALANCED, Restless())
    assert asked == [rows] * 20
    assert np.array_equal(ours, made(20, rows, OFF, Restless())[0])


def test_every_step_is_yielded_with_its_preview() -> None:
    seen: list[bool] = []
    whole = cached(plan(20, 2), BALANCED)

    def watched() -> Iterator[Step]:
        denoiser, step = Denoiser(), next(whole.loop)
        for _ in range(20):
            assert step.preview is not None
            assert step.preview()["latents"].shape == (1, 64)
            seen.append(bool(step.inputs))
            made = denoiser({**constant_of(whole, step), **step.inputs}) if step.inputs else np.empty(0)
            yield step
            try:
                step = whole.loop.send(made)
            except StopIteration:
                return

    assert len(list(watched())) == len(seen) == 20
    assert seen[0]
    assert seen[-1]
    assert not all(seen)


def test_a_prediction_may_be_overwritten_once_the_next_is_asked_for() -> None:
    room = np.empty((3, 64), np.float32)
    denoiser = Denoiser()

    def overwriting(inputs: Tensors) -> Array:
        found = denoiser(inputs)
        room[:] = np.nan
        room[: len(found)] = found
        return room[: len(found)]

    ours = denoise_alone(cached(plan(20, 3), BALANCED), overwriting)["latents"]
    assert np.array_equal(ours, made(20, 3, BALANCED)[0])


def test_a_loop_of_more_steps_than_its_plan_says_is_an_error() -> None:
    wrong = replace(plan(20, 1), loop=euler(21, 1))
    with pytest.raises(RuntimeError, match="more than its 20 steps"):
        denoise_alone(cached(wrong, BALANCED), Denoiser())
