"""The plan of one edit by FLUX.2 klein. Imported by `edit`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from families.edit import Edit
from families.flux2_klein.table import TOKENS
from families.interface import MASK, Plan, Tensors
from families.parts import flow_denoising, packing
from families.parts.flow_denoising import latent_size
from families.parts.guidance import TextGuidance
from families.parts.references import KEPT
from families.schedules import NoiseSchedules
from families.settings import Settings

REFERENCE_STEP = 10
"""References stand at 10, 20, ... on the axis of pictures, the noise at 0."""
LONG = 4300
"""Tokens from which the shift no longer depends on the number of steps."""


def noise(steps: int, tokens: int, _config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Evenly spread sigmas, and the shift that diffusers' `compute_empirical_mu` gives so many target tokens."""
    many = 0.00016927 * tokens + 0.45666666
    few = 8.73809524e-05 * tokens + 1.89833333
    slope = (many - few) / 190.0
    mu = many if tokens > LONG else slope * steps + many - 200.0 * slope
    return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": mu}


def plan(edit: Edit, tensors: Tensors, schedules: NoiseSchedules, settings: Settings) -> Plan:
    """From `encoder_hidden_states` (P, 512, width) and `reference_0`, `reference_1`, ... (1, C, h, w); with a mask
    `kept_latents` (1, C, h, w) and `mask` (1, 1, h, w).

    The references keep the sizes they came in. The noise is drawn as diffusers draws it on a CPU.
    """
    guidance = TextGuidance.of(edit, known=not settings.own["distilled"])
    references = [tensors[f"reference_{place}"] for place in range(len(edit.images))]
    channels = settings.own["channels"]
    height, width = latent_size(edit, settings)
    generator = torch.Generator().manual_seed(edit.seed)
    latents = torch.randn((1, channels, height, width), generator=generator).numpy()
    numbers = [REFERENCE_STEP * place for place, _ in enumerate(references, 1)]
    constant = {
        "references": packing.pack_all(references, channels),
        "sample_ids": packing.positions(height, width, 0),
        "reference_ids": packing.all_positions(references, numbers),
        "encoder_hidden_states": tensors["encoder_hidden_states"],
    }
    kept = (tensors[KEPT], tensors[MASK]) if MASK in tensors else None
    steps = edit.num_inference_steps
    schedule = schedules(steps, generator, **noise(steps, height * width, schedules.config))
    return flow_denoising.plan(latents, references, constant, guidance, schedule, text=TOKENS, kept=kept)
