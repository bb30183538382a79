"""The plan of one edit by FLUX.1 Kontext. Imported by `edit`."""

import numpy as np
import torch

from families.edit import Edit
from families.flux_kontext.table import AXES, TOKENS
from families.interface import MASK, Plan, Tensors
from families.parts import flow_denoising, packing
from families.parts.flow_denoising import latent_size, linear_noise
from families.parts.references import KEPT
from families.schedules import NoiseSchedules
from families.settings import Settings

noise = linear_noise


def plan(edit: Edit, tensors: Tensors, schedules: NoiseSchedules, settings: Settings) -> Plan:
    """From `pooled_projections`, `encoder_hidden_states` and, where there is a picture, `reference_0` (1, C, h, w);
    with a mask `kept_latents` (1, C, h, w) and `mask` (1, 1, h, w)."""
    pictures = [tensors["reference_0"]] if edit.images else []
    channels = settings.own["channels"]
    height, width = latent_size(edit, settings)
    generator = torch.Generator().manual_seed(edit.seed)
    latents = flow_denoising.patched_noise(generator, channels, (height, width))
    constant = {
        "references": packing.pack_all(pictures, channels),
        "sample_ids": packing.positions(height, width, 0, AXES),
        "reference_ids": packing.all_positions(pictures, [1] * len(pictures), AXES),
        "encoder_hidden_states": tensors["encoder_hidden_states"],
        "pooled_projections": tensors["pooled_projections"],
    }
    if settings.own["guided"]:
        constant["guidance"] = np.array([[edit.guidance_scale]], np.float32)
    kept = (tensors[KEPT], tensors[MASK]) if MASK in tensors else None
    steps = edit.num_inference_steps
    schedule = schedules(steps, generator, **noise(steps, height * width, schedules.config))
    return flow_denoising.plan(latents, pictures, constant, flow_denoising.Unguided(), schedule, text=TOKENS, kept=kept)
