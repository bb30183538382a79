"""OpenAI's way to ask for an edit: a form in, `data[].b64_json` out. What is not served is refused, not ignored."""

import base64
import re
import time
from functools import partial
from typing import Final

import orjson

from gateway import encode, unserved
from gateway.call import Call, Source, edit_of
from gateway.errors import PublicError
from gateway.multipart import Part, digest, parts_of
from gateway.schemas import ImageEditForm, validated
from gateway.triton import Picture

IMAGES: Final = ("image", "image[]")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}(\[\])?", re.ASCII | re.IGNORECASE)  # one that may be repeated
BEST: Final = 100  # the quality of a file that is made here, unless the form names another


def parse(content: bytes, content_type: str) -> Call:
    """The call in a form. Raises `PublicError`."""
    parts = parts_of(content, content_type)
    form = validated(ImageEditForm, _texts(parts), strings=True)
    if form.output_format == "png" and form.output_compression not in (None, BEST):
        message = f"output_compression: only {BEST} is served with png."
        raise PublicError("unsupported_parameter", param="output_compression", message=message)
    sources: list[Source] = [bytes(part.content) for part in parts if part.name in IMAGES]
    if not sources:
        raise PublicError("parameter_invalid", param="image", message="image: give at least one file.")
    # Triton's own JPEG serves as it is; all else is made here from the bare pixels.
    as_it_is = form.output_format == "jpeg" and form.output_compression is None
    edit = edit_of(form, "jpeg" if as_it_is else "raw")
    return Call(edit, sources, partial(answer, form, edit.seed, as_it_is), digest(parts))


def _texts(parts: list[Part]) -> dict[str, str]:
    """The fields that are text; empty ones are none. Raises `PublicError`: unknown, there twice, or not UTF-8."""
    texts: dict[str, str] = {}
    for part in parts:
        if part.name in IMAGES or not part.content:
            continue
        if part.name not in ImageEditForm.model_fields:
            raise unserved.refusal(part.name) if _NAME.fullmatch(part.name) else PublicError("unsupported_parameter")
        if part.name in texts:
            raise PublicError("body_unreadable", param=part.name, message=f"{part.name}: is there twice.")
        try:
            texts[part.name] = part.content.decode()
        except UnicodeDecodeError:
            raise PublicError("body_unreadable", param=part.name, message=f"{part.name}: is not UTF-8.") from None
    return texts


def answer(form: ImageEditForm, seed: int, as_it_is: bool, picture: Picture) -> bytes:
    """OpenAI's answer, with what the picture was made with beside it. `usage` is absent: no tokens are counted."""
    quality = BEST if form.output_compression is None else form.output_compression
    content = picture.content if as_it_is else encode.file(picture, form.output_format, quality)
    return orjson.dumps(
        {
            "created": int(time.time()),
            "data": [{"b64_json": base64.b64encode(content).decode()}],
            "output_format": form.output_format,
            "size": f"{picture.width}x{picture.height}",
            "seed": seed,
            **picture.used,
        }
    )
