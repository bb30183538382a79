"""OpenAI's answer: `data[].b64_json`, in the file format that was asked for."""

import base64
import time
from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway import encode, sides
from gateway.errors import PublicError
from gateway.openai_schemas import OpenAIOutput
from gateway.pictures import Picture, own_of, used_of
from gateway.schemas import ImageFormat
from gateway.sized_schemas import size_of
from gateway.tensors import Edit

BEST: Final = 100
"""The quality of a file that is made here, unless the caller names another."""


def wanted(asked: OpenAIOutput) -> ImageFormat:
    """What to ask of Triton: its own JPEG where that serves as it is; all else is made here from the bare pixels.

    Raises `PublicError` for a compression that the format does not have, or a size that it cannot hold.
    """
    sides.check(size_of(asked.size), asked.output_format)
    if asked.output_format == "png" and asked.output_compression not in (None, BEST):
        message = f"output_compression: only {BEST} is served with png."
        raise PublicError("unsupported_parameter", param="output_compression", message=message)
    return "jpeg" if asked.output_format == "jpeg" and asked.output_compression is None else "raw"


def answer(asked: OpenAIOutput, edit: Edit, pictures: Sequence[Picture]) -> bytes:
    """The JSON, with what the pictures were made with beside it."""
    return orjson.dumps(answered(asked, edit, pictures))


def answered(asked: OpenAIOutput, edit: Edit, pictures: Sequence[Picture]) -> dict[str, Any]:
    """The same as Python has it."""
    first = pictures[0]
    files = (base64.b64encode(content(asked, picture)).decode() for picture in pictures)
    each = [{"seed": edit.seed_of(index), **own_of(picture)} for index, picture in enumerate(pictures)]
    return {
        "created": int(time.time()),
        "data": [{"b64_json": file, **own} for file, own in zip(files, each, strict=True)],
        "output_format": asked.output_format,
        "size": f"{first.width}x{first.height}",
        "seed": edit.seed,
        **used_of(pictures),
        **usage(pictures),
    }


def content(asked: OpenAIOutput, picture: Picture) -> bytes:
    """A picture's file, as it is asked for."""
    if wanted(asked) == "jpeg":
        return picture.content
    return encode.file(
        picture, asked.output_format, BEST if asked.output_compression is None else asked.output_compression
    )


def usage(pictures: Sequence[Picture]) -> dict[str, Any]:
    """`usage`, of one edit's pictures, where their tokens are counted: those of the input are there once."""
    tokens = pictures[0].tokens
    if tokens is None:
        return {}
    read, made = tokens.text + tokens.image, tokens.output * len(pictures)
    return {
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"image_tokens": tokens.image, "text_tokens": tokens.text},
            "output_tokens": made,
            "total_tokens": read + made,
        }
    }
