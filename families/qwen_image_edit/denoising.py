"""The plan of one edit by Qwen-Image-Edit. Imported by `edit`."""

from collections.abc import Sequence

import numpy as np
import torch

from families.edit import Edit
from families.interface import MASK, Array, Plan, Tensors
from families.parts import flow_denoising, packing
from families.parts.flow_denoising import latent_size, linear_noise
from families.parts.references import KEPT
from families.qwen_image_edit.guidance import Guidance
from families.qwen_image_edit.table import PLACES
from families.schedules import NoiseSchedules
from families.settings import Settings

noise = linear_noise


def plan(edit: Edit, tensors: Tensors, schedules: NoiseSchedules, settings: Settings) -> Plan:
    """From `encoder_hidden_states` (P, T, width), `text_tokens` (P) and `reference_0`, ... (1, C, h, w); with a mask
    `kept_latents` (1, C, h, w) and `mask` (1, 1, h, w)."""
    pictures = [tensors[f"reference_{place}"] for place in range(len(edit.images))]
    channels, (height, width) = settings.own["channels"], latent_size(edit, settings)
    generator = torch.Generator().manual_seed(edit.seed)
    latents = flow_denoising.patched_noise(generator, channels, (height, width))
    sizes = [(height, width), *((picture.shape[2], picture.shape[3]) for picture in pictures)]
    made, *seen = (_places(number, *size) for number, size in enumerate(sizes))
    text = tensors["encoder_hidden_states"]
    constant = {
        "references": packing.pack_all(pictures, channels),
        "sample_ids": made,
        "reference_ids": np.concatenate(seen, axis=1),
        "encoder_hidden_states": text,
        "text_ids": _text_places(tensors["text_tokens"], text.shape[1], sizes),
    }
    kept = (tensors[KEPT], tensors[MASK]) if MASK in tensors else None
    steps = edit.num_inference_steps
    schedule = schedules(steps, generator, **noise(steps, height * width, schedules.config))
    guidance = Guidance.of(edit)
    return flow_denoising.plan(
        latents, pictures, constant, guidance, schedule, text=text.shape[1], kept=kept, padded=True
    )


def _places(number: int, height: int, width: int) -> Array:
    """(1, height * width, 4): the picture's number, rows and columns from its middle, and that the token is there."""
    middle = np.array([0, height - height // 2, width - width // 2, -1], np.float32)
    places: Array = packing.positions(height, width, number, PLACES) - middle
    return places


def _text_places(counts: Array, length: int, sizes: Sequence[tuple[int, int]]) -> Array:
    """(P, length, 4): a text goes on where the largest of all pictures ends, alike on all axes; zeros are padding."""
    begin = max(max(height // 2, width // 2) for height, width in sizes)
    rows = np.zeros((len(counts), length, PLACES), np.float32)
    for row, count in zip(rows, counts.tolist(), strict=True):
        row[:count, :-1] = begin + np.arange(count)[:, None]
        row[:count, -1] = 1
    return rows
