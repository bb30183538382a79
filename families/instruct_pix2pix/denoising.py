"""The denoising loop of InstructPix2Pix, and the plan of one edit. Imported by `edit`.

Latents are (1, C, h, w) float32 in the noise schedule's own scale; the picture's latents are not scaled, as this family
was trained. Knows nothing of Triton, of engines, or of other edits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from families.plan import Loop, Plan
from families.schedules import NoiseSchedules, Schedule


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance on text and picture (eq. 3 of the paper). `text` 1 turns it off."""

    text: float
    image: float

    @property
    def rows(self) -> int:
        """Rows of one call. At an image scale of 1 the unconditional prediction cancels out: it is not asked for."""
        if self.text == 1.0:
            return 1
        return 2 if self.image == 1.0 else 3

    def combine(self, prediction: torch.Tensor) -> torch.Tensor:
        """(rows, C, h, w), rows in the order (text and picture, picture, neither) -> (1, C, h, w)."""
        if self.rows == 1:
            return prediction
        if self.rows == 2:
            with_text, with_picture = prediction.chunk(2)
            return with_picture + self.text * (with_text - with_picture)
        with_text, with_picture, without = prediction.chunk(3)
        return without + self.text * (with_text - with_picture) + self.image * (with_picture - without)


def denoise(latents: torch.Tensor, picture: torch.Tensor, guidance: Guidance, schedule: Schedule) -> Loop:
    """Denoises `latents` (1, C, h, w), unit noise, into the edited picture's latents.

    `picture` (rows, C', h, w) is the input picture's latents as each row sees it. Yields `sample` (rows, C + C', h, w)
    and `timestep` (rows, 1), expects the prediction (rows, C, h, w), returns the latents (1, C, h, w).
    """
    latents = latents * schedule.initial_sigma
    for timestep in schedule.timesteps:
        sample = schedule.scale(latents, timestep).expand(guidance.rows, -1, -1, -1)
        prediction = yield {
            "sample": torch.cat([sample, picture], dim=1).numpy(),
            "timestep": np.full((guidance.rows, 1), float(timestep), np.float32),
        }
        latents = schedule.step(guidance.combine(torch.from_numpy(prediction)), timestep, latents)
    return latents.numpy()


def plan(tensors: Mapping[str, NDArray[Any]], steps: int, seed: int, schedules: NoiseSchedules) -> Plan:
    """One edit's plan from `encoder_hidden_states` (P, tokens, width), `image_latents` (1, C', h, w), `guidance` (2,).

    `adapter` (P, 1) is there where the UNet has a bank of adapters: every row of the edit has the same.
    The noise is drawn as diffusers draws it on a CPU: one generator for the first latents and every later step.
    """
    guidance = Guidance(*(float(scale) for scale in tensors["guidance"]))
    picture = torch.from_numpy(tensors["image_latents"])
    constant = {"encoder_hidden_states": tensors["encoder_hidden_states"][[0, 1, 1][: guidance.rows]]}
    if "adapter" in tensors:
        constant["adapter"] = tensors["adapter"][[0] * guidance.rows]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(picture.shape, generator=generator)  # (1, C, h, w); C = C' in this family
    schedule = schedules(steps, generator)
    return Plan(
        shape=tuple(picture.shape),
        rows=guidance.rows,
        constant=constant,
        loop=denoise(noise, _picture_rows(picture, guidance.rows), guidance, schedule),
    )


def _picture_rows(picture: torch.Tensor, rows: int) -> torch.Tensor:
    """(1, C', h, w) -> (rows, C', h, w): the third row, where there is one, sees no picture."""
    repeated = picture.repeat(rows, 1, 1, 1)
    repeated[2:] = 0.0
    return repeated
