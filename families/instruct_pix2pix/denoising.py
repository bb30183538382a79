"""The plan of one edit by InstructPix2Pix. Imported by `edit`."""

from families.edit import Edit
from families.interface import MASK, Plan, Tensors
from families.parts import picture_denoising
from families.parts.guidance import PictureGuidance
from families.parts.picture_denoising import noise  # noqa: F401 - of what a family's denoising offers
from families.schedules import NoiseSchedules
from families.settings import Settings


def plan(edit: Edit, tensors: Tensors, schedules: NoiseSchedules, settings: Settings) -> Plan:
    """From `encoder_hidden_states` (P, tokens, width), `image_latents` (1, C, h, w) and, with a mask, `mask`."""
    rows = PictureGuidance.of(edit).text_rows
    text = {"encoder_hidden_states": tensors["encoder_hidden_states"][rows]}
    picture = tensors["image_latents"]
    kept = (picture * settings.own["latent_scale"], tensors[MASK]) if MASK in tensors else None
    return picture_denoising.plan(edit, picture, text, schedules, kept)
