"""The plan of one edit by InstructPix2Pix. Imported by `edit`."""

import torch

from families.edit import Edit
from families.interface import Plan, Tensors
from families.parts import picture_denoising
from families.parts.guidance import PictureGuidance
from families.parts.picture_denoising import noise  # noqa: F401 - of what a family's denoising offers
from families.schedules import NoiseSchedules
from families.settings import Settings


def plan(edit: Edit, tensors: Tensors, schedules: NoiseSchedules, _settings: Settings) -> Plan:
    """From `encoder_hidden_states` (P, tokens, width) and `image_latents` (1, C, h, w)."""
    rows = PictureGuidance.of(edit).text_rows
    text = {"encoder_hidden_states": tensors["encoder_hidden_states"][rows]}
    return picture_denoising.plan(edit, torch.from_numpy(tensors["image_latents"]), text, schedules)
