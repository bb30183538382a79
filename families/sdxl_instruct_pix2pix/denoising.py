"""The plan of one edit by SDXL's InstructPix2Pix. Imported by `edit`."""

import numpy as np

from families.edit import Edit
from families.interface import MASK, Plan, Tensors
from families.parts import picture_denoising
from families.parts.guidance import PictureGuidance
from families.parts.picture_denoising import noise  # noqa: F401 - of what a family's denoising offers
from families.schedules import NoiseSchedules
from families.settings import Settings


def plan(edit: Edit, tensors: Tensors, schedules: NoiseSchedules, settings: Settings) -> Plan:
    """From `encoder_hidden_states` (P, tokens, widths), `text_embeds` (P, pooled), `image_latents` (1, C, h, w) and,
    with a mask, `mask`."""
    rows = PictureGuidance.of(edit).text_rows
    height, width = (side * settings.own["factor"] for side in tensors["image_latents"].shape[2:])
    constant = {name: tensors[name][rows] for name in ("encoder_hidden_states", "text_embeds")}
    constant["time_ids"] = np.array([[height, width, 0, 0, height, width]] * len(rows), np.float32)
    picture = tensors["image_latents"] * settings.own["picture_scale"]
    known = tensors["image_latents"] * settings.own["latent_scale"]
    return picture_denoising.plan(
        edit, picture, constant, schedules, (known, tensors[MASK]) if MASK in tensors else None
    )
