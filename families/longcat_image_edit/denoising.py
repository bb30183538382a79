"""The plan of one edit by LongCat-Image-Edit. Imported by `edit`."""

import numpy as np
import torch

from families.edit import Edit
from families.interface import MASK, Array, Plan, Tensors
from families.longcat_image_edit.table import AXES
from families.parts import flow_denoising, packing
from families.parts.flow_denoising import latent_size, linear_noise
from families.parts.guidance import TextGuidance
from families.parts.references import KEPT
from families.schedules import NoiseSchedules
from families.settings import Settings

noise = linear_noise


def plan(edit: Edit, tensors: Tensors, schedules: NoiseSchedules, settings: Settings) -> Plan:
    """From `encoder_hidden_states` (P, T, width) and `reference_0` (1, C, h, w); with a mask `kept_latents` (1, C, h,
    w) and `mask` (1, 1, h, w)."""
    text, picture = tensors["encoder_hidden_states"], tensors["reference_0"]
    height, width = latent_size(edit, settings)
    generator = torch.Generator().manual_seed(edit.seed)
    latents = flow_denoising.patched_noise(generator, settings.own["channels"], (height, width))
    length = text.shape[1]
    constant = {
        "references": packing.pack(picture),
        "sample_ids": _places(height, width, 1, length),
        "reference_ids": _places(picture.shape[2], picture.shape[3], 2, length),
        "encoder_hidden_states": text,
    }
    kept = (tensors[KEPT], tensors[MASK]) if MASK in tensors else None
    steps = edit.num_inference_steps
    schedule = schedules(steps, generator, **noise(steps, height * width, schedules.config))
    guidance = TextGuidance.of(edit)
    return flow_denoising.plan(latents, [picture], constant, guidance, schedule, text=length, kept=kept)


def _places(height: int, width: int, number: int, text: int) -> Array:
    """(1, height * width, 3): the picture's number, and rows and columns, which begin where the text ends."""
    places: Array = packing.positions(height, width, number, AXES) + np.array([0, text, text], np.float32)
    return places
