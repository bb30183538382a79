"""What the batcher knows of an edit: a plan. Knows nothing of what its tensors mean."""

from collections.abc import Callable, Generator, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = Mapping[str, NDArray[Any]]
"""Denoiser inputs by name; every array's first axis is rows."""

Denoiser = Callable[[Rows], NDArray[Any]]
"""One forward pass: inputs of N rows -> prediction of N rows. Rows do not influence one another."""

Loop = Generator[Rows, NDArray[Any], NDArray[Any]]
"""A denoising loop turned inside out: yields the inputs of its next call that change from step to step, is sent the
prediction for its rows, and returns the finished latents."""


@dataclass(frozen=True)
class Plan:
    """One edit, ready to be denoised.

    `shape`: plans of equal shape may share a call. `rows`: rows of each call. `constant`: the inputs that are the same
    at every step.
    """

    shape: Hashable
    rows: int
    constant: Rows
    loop: Loop


def denoise_alone(plan: Plan, denoiser: Denoiser) -> NDArray[Any]:
    """Runs one plan to its end with no neighbours: the reference that batching must equal."""
    try:
        rows = next(plan.loop)
        while True:
            rows = plan.loop.send(denoiser({**plan.constant, **rows}))
    except StopIteration as finished:
        return np.asarray(finished.value)
