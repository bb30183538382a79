"""The denoising loop of InstructPix2Pix's kind: a UNet that sees the input picture's latents as extra channels.

Latents are (1, C, h, w) float32 in the noise schedule's own scale. Knows nothing of Triton, of engines, or of other
edits.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from families.edit import Edit
from families.interface import Array, Loop, Plan, Step, Tensors
from families.parts.guidance import PictureGuidance, repeated
from families.parts.hold import Hold
from families.schedules import NoiseSchedules, Schedule


def noise(_steps: int, _tokens: int, _config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Nothing: these schedules are made with a number of steps alone."""
    return {}


def plan(
    edit: Edit,
    image_latents: Array,
    constant: Tensors,
    schedules: NoiseSchedules,
    kept: tuple[Array, Array] | None = None,
) -> Plan:
    """An edit's plan. `image_latents` (1, C', h, w) in the scale in which the UNet sees them; C' = C in these families.
    `kept`: with a mask, the same in the schedule's scale, and where they may change (1, 1, h, w).

    A token is a latent. The noise is drawn as diffusers draws it on a CPU: one generator for the first latents and
    every later step.
    """
    guidance = PictureGuidance.of(edit)
    generator = torch.Generator().manual_seed(edit.seed)
    latents = torch.randn(image_latents.shape, generator=generator).numpy()
    schedule = schedules(edit.num_inference_steps, generator)
    tokens = image_latents.shape[2] * image_latents.shape[3]
    hold = Hold(kept[0], latents, kept[1]) if kept else None
    return Plan(
        constant=constant,
        loop=denoise(latents, guidance.pictures(image_latents), guidance, schedule, hold),
        tokens=tokens,
        steps=len(schedule.timesteps),
        usage=(constant["encoder_hidden_states"].shape[1], tokens, tokens),
    )


def denoise(
    latents: Array,
    pictures: Array,
    guidance: PictureGuidance,
    schedule: Schedule,
    hold: Hold | None = None,
) -> Loop:
    """Denoises `latents` (1, C, h, w), unit noise, into the edited picture's, but what `hold` keeps.

    `pictures` (rows, C', h, w) is the input picture's latents as each row sees it. Yields `sample` (rows, C + C', h, w)
    and `timestep` (rows, 1), expects the prediction (rows, C, h, w), returns `latents` (1, C, h, w).
    """

    def preview() -> Tensors:
        made = schedule.estimate()
        estimate = latents if made is None else made
        return {"latents": (hold.clean(estimate) if hold else estimate).copy()}

    latents = latents * schedule.initial_sigma
    for place, timestep in enumerate(schedule.timesteps):
        sample = repeated(schedule.scale(latents, timestep), guidance.rows)
        prediction = yield Step(
            {
                "sample": np.concatenate([sample, pictures], axis=1),
                "timestep": np.full((guidance.rows, 1), schedule.numbers[place], np.float32),
            },
            preview if place else None,
        )
        latents = schedule.step(guidance.combine(prediction), timestep, latents)
        if hold:
            latents = hold.after(place, latents, schedule)
    return {"latents": latents}
