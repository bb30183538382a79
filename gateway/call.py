"""What a caller asks for, whichever way it was written."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.images import IMAGE
from gateway.pictures import Event, Picture
from gateway.schemas import EditParameters, ImageFormat, PictureParameters
from gateway.sized_schemas import AUTO, MOST_PICTURES, OWN, Sized, size_of
from gateway.tensors import Edit, Watch

MOST_DRAWN_SEED: Final = 2**53 - MOST_PICTURES
"""Every JSON client can read a drawn seed back, and those after it: doubles hold them exactly."""
Source: TypeAlias = str | bytes  # a URL, a data URL or base64; or the encoded picture itself


@dataclass(frozen=True)
class Stream:
    """How a call is answered as it runs. `told`: makes an event's JSON, with its name; slow."""

    watch: Watch
    told: Callable[[Event], tuple[str, bytes]]


@dataclass(frozen=True)
class Call:
    """One edit as it was asked for.

    `edit`: all but its images and mask. `sources`: where the images come from, and `masks` where the mask does, if
    there is one; emptied as they are loaded, because they are large. `answer`: makes the answer's JSON of the pictures;
    slow. `digest`: of all that was sent. `stream`: none where there is one answer. `output_format`: of the file that is
    made here, or for the caller by Triton; "" where Triton's own answer is handed on. `images`: the field that
    they came in.
    """

    edit: Edit
    sources: list[Source]
    answer: Callable[[Sequence[Picture]], bytes]
    digest: bytes
    masks: list[Source]
    stream: Stream | None
    output_format: str = ""
    images: str = IMAGE


def edit_of(asked: PictureParameters, response_format: ImageFormat) -> Edit:
    """What to ask of Triton, its images still missing; a seed is drawn when none is given."""
    sized = asked if isinstance(asked, Sized) else None
    negative = asked.negative_prompt or ""
    return Edit(
        images=(),
        prompt=asked.prompt,
        num_inference_steps=asked.num_inference_steps,
        guidance_scale=asked.guidance_scale,
        image_guidance_scale=asked.image_guidance_scale if isinstance(asked, EditParameters) else OWN,
        seed=secrets.randbelow(MOST_DRAWN_SEED) if asked.seed is None else asked.seed,
        model=asked.model or "",
        response_format=response_format,
        size=size_of(sized.size if sized else AUTO),
        negative_prompt=negative if negative.strip() else "",
        n=sized.n if sized else 1,
        cache=asked.cache or "",
    )


def stream_of(asked: Sized, told: Callable[[Event], tuple[str, bytes]]) -> Stream | None:
    """How it is to be answered as it runs, where that is asked for."""
    return Stream(Watch(asked.progress, asked.partial_images), told) if asked.stream else None
