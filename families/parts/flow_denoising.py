"""The denoising loop of transformers that see a picture as tokens, and flow from noise to it.

Latents are (1, C, h, w) float32, a token each, and stand with their references' in one sequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from families.edit import Edit
from families.interface import Array, Loop, Plan, Step, Tensors
from families.parts import packing
from families.parts.guidance import repeated
from families.parts.hold import Hold
from families.parts.packing import PATCH
from families.parts.picture_axes import REFERENCES, TARGET, TEXT
from families.schedules import Schedule
from families.settings import Settings

PADDED = {
    TARGET: ("sample", "sample_ids"),
    REFERENCES: ("references", "reference_ids"),
    TEXT: ("encoder_hidden_states", "text_ids"),
}
"""What stands on each axis of tokens."""


class Guidance(Protocol):
    """How many rows a call has, and how their predictions become one."""

    @property
    def rows(self) -> int:
        """Of one call."""

    def combine(self, prediction: Array) -> Array:
        """(rows, ...) -> (1, ...)."""


@dataclass(frozen=True)
class Unguided:
    """One row: the model knows its guidance by itself, or has none."""

    rows: int = 1

    def combine(self, prediction: Array) -> Array:
        """The same."""
        return prediction


def linear_noise(steps: int, tokens: int, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Evenly spread sigmas, and a shift that grows with the target's tokens, by the scheduler's own numbers."""
    short, long = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (most - least) / (long - short)
    return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": tokens * slope + least - slope * short}


def latent_size(edit: Edit, settings: Settings) -> tuple[int, int]:
    """The (h, w) of the latents of the picture that is made; `settings.own` says how many pixels a `factor` is."""
    width, height = edit.working
    return height // settings.own["factor"], width // settings.own["factor"]


def patched_noise(generator: torch.Generator, channels: int, size: tuple[int, int]) -> Array:
    """(1, `channels`, h, w), drawn as diffusers draws it on a CPU, at once, and then patched."""
    height, width = size
    drawn = torch.randn((1, channels // PATCH**2, height * PATCH, width * PATCH), generator=generator)
    noise: Array = torch.nn.functional.pixel_unshuffle(drawn, PATCH).numpy()
    return noise


def plan(
    latents: Array,
    references: Sequence[Array],
    constant: Tensors,
    guidance: Guidance,
    schedule: Schedule,
    *,
    text: int,
    kept: tuple[Array, Array] | None = None,
    padded: bool = False,
) -> Plan:
    """A plan from noise, and references with their positions in `constant` (one row each).

    `padded`: whether a token's place says if it is there, so that rows of a call may have more or fewer of them.
    `text`: tokens of the text. `kept`: with a mask, the picture's latents (1, C, h, w), and where they may change
    (1, 1, h, w).
    """
    height, width = latents.shape[2:]
    seen, made = sum(latent.shape[2] * latent.shape[3] for latent in references), height * width
    rows = {
        name: array.repeat(guidance.rows, axis=0) if len(array) == 1 < guidance.rows else array
        for name, array in constant.items()
    }
    known, free = kept or (None, None)
    hold = None
    if known is not None and free is not None:
        hold = Hold(packing.pack(known), packing.pack(latents), packing.pack(free))
    return Plan(
        constant=rows,
        loop=denoise(packing.pack(latents), (height, width), guidance, schedule, hold),
        tokens=text + seen + made,
        steps=len(schedule.timesteps),
        usage=(text, seen, made),
        padded=PADDED if padded else {},
    )


def denoise(
    tokens: Array, size: tuple[int, int], guidance: Guidance, schedule: Schedule, hold: Hold | None = None
) -> Loop:
    """Denoises `tokens` (1, h * w, C). Yields `sample` (rows, h * w, C) and `timestep` (rows, 1), returns `latents`."""
    sample = tokens

    def preview() -> Tensors:
        made = schedule.estimate()
        estimate = sample if made is None else made
        return {"latents": packing.unpack(hold.clean(estimate) if hold else estimate, *size)}

    for place, timestep in enumerate(schedule.timesteps):
        step = {
            "sample": repeated(schedule.scale(sample, timestep), guidance.rows),
            "timestep": np.full((guidance.rows, 1), schedule.numbers[place], np.float32),
        }
        prediction = yield Step(step, preview if place else None)
        own = prediction[:, : sample.shape[1]]
        sample = schedule.step(guidance.combine(own), timestep, sample)
        if hold:
            sample = hold.after(place, sample, schedule)
    return {"latents": packing.unpack(sample, *size)}
