"""The plan of one edit by FLUX.2 klein. Imported by `edit`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from families.edit import Edit
from families.flux2_klein.table import TOKENS
from families.interface import Array, Loop, Plan, Step, Tensors
from families.parts import packing
from families.parts.guidance import TextGuidance
from families.schedules import NoiseSchedules, Schedule
from families.settings import Settings

REFERENCE_STEP = 10
"""References stand at 10, 20, ... on the axis of pictures, the noise at 0."""
LONG = 4300
"""Tokens from which the shift no longer depends on the number of steps."""


def noise(steps: int, tokens: int) -> Mapping[str, Any]:
    """Evenly spread sigmas, and the shift that diffusers' `compute_empirical_mu` gives so many target tokens."""
    many = 0.00016927 * tokens + 0.45666666
    few = 8.73809524e-05 * tokens + 1.89833333
    slope = (many - few) / 190.0
    mu = many if tokens > LONG else slope * steps + many - 200.0 * slope
    return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": mu}


def plan(edit: Edit, tensors: Tensors, schedules: NoiseSchedules, settings: Settings) -> Plan:
    """From `encoder_hidden_states` (P, 512, width) and `reference_0`, `reference_1`, ... (1, C, h, w).

    The answer has the first reference's size. The noise is drawn as diffusers draws it on a CPU.
    """
    guidance = TextGuidance.of(edit, known=not settings.own["distilled"])
    references = [tensors[f"reference_{place}"] for place in range(len(edit.images))]
    channels, height, width = references[0].shape[1:]
    generator = torch.Generator().manual_seed(edit.seed)
    latents = torch.randn((1, channels, height, width), generator=generator).numpy()
    ids = [
        packing.positions(*latent.shape[2:], REFERENCE_STEP * (place + 1)) for place, latent in enumerate(references)
    ]
    constant = {
        "references": np.concatenate([packing.pack(latent) for latent in references], axis=1),
        "sample_ids": packing.positions(height, width, 0),
        "reference_ids": np.concatenate(ids, axis=1),
    }
    constant = {name: array.repeat(guidance.rows, axis=0) for name, array in constant.items()}
    constant["encoder_hidden_states"] = tensors["encoder_hidden_states"]
    steps = edit.num_inference_steps
    schedule = schedules(steps, generator, **noise(steps, height * width))
    return Plan(
        # The network takes the first row's positions for all rows: so all rows of a call have pictures of equal sizes.
        key=tuple(latent.shape[2:] for latent in references),
        constant=constant,
        loop=denoise(packing.pack(latents), (height, width), guidance, schedule),
        tokens=TOKENS + height * width + constant["references"].shape[1],
    )


def denoise(tokens: Array, size: tuple[int, int], guidance: TextGuidance, schedule: Schedule) -> Loop:
    """Denoises `tokens` (1, h * w, C). Yields `sample` (rows, h * w, C) and `timestep` (rows, 1), returns `latents`."""
    sample = torch.from_numpy(tokens)

    def preview() -> Tensors:
        estimate = schedule.estimate()
        return {"latents": packing.unpack((sample if estimate is None else estimate).numpy(), *size)}

    for place, timestep in enumerate(schedule.timesteps):
        step = {
            "sample": schedule.scale(sample, timestep).expand(guidance.rows, -1, -1).numpy(),
            "timestep": np.full((guidance.rows, 1), float(timestep), np.float32),
        }
        prediction = yield Step(step, preview if place else None)
        sample = schedule.step(guidance.combine(torch.from_numpy(prediction)), timestep, sample)
    return {"latents": packing.unpack(sample.numpy(), *size)}
