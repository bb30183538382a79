"""What a caller asks for, whichever way it was written."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.adapters import BASE_MODEL
from gateway.schemas import OWN, EditParameters, ImageFormat, PictureParameters
from gateway.triton import Edit, Picture

DRAWN_SEED_BITS: Final = 53  # Every JSON client can read these back: doubles hold them exactly.
Source: TypeAlias = str | bytes  # a URL, a data URL or base64; or the encoded picture itself


@dataclass(frozen=True)
class Call:
    """One edit as it was asked for.

    `edit`: all but its images. `sources`: where those come from; emptied as they are loaded, because they are large.
    `answer`: makes the answer's JSON of the picture; slow. `digest`: of all that was sent.
    """

    edit: Edit
    sources: list[Source]
    answer: Callable[[Picture], bytes]
    digest: bytes


def edit_of(asked: PictureParameters, response_format: ImageFormat, size: tuple[int, int] = (OWN, OWN)) -> Edit:
    """What to ask of Triton, its images still missing; a seed is drawn when none is given.

    `size`: width and height, for a picture from text alone.
    """
    return Edit(
        images=(),
        prompt=asked.prompt,
        num_inference_steps=asked.num_inference_steps,
        guidance_scale=asked.guidance_scale,
        image_guidance_scale=asked.image_guidance_scale if isinstance(asked, EditParameters) else OWN,
        seed=secrets.randbits(DRAWN_SEED_BITS) if asked.seed is None else asked.seed,
        model="" if asked.model in (None, BASE_MODEL) else asked.model,
        response_format=response_format,
        size=size,
    )
