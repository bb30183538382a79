"""OpenAI's answer: `data[].b64_json`, in the file format that was asked for."""

import base64
import time
from typing import Any, Final

import orjson

from gateway import encode
from gateway.errors import PublicError
from gateway.schemas import ImageFormat, OpenAIOutput
from gateway.triton import Picture

BEST: Final = 100
"""The quality of a file that is made here, unless the caller names another."""


def wanted(asked: OpenAIOutput) -> ImageFormat:
    """What to ask of Triton: its own JPEG where that serves as it is; all else is made here from the bare pixels.

    Raises `PublicError` for a compression that the format does not have.
    """
    if asked.output_format == "png" and asked.output_compression not in (None, BEST):
        message = f"output_compression: only {BEST} is served with png."
        raise PublicError("unsupported_parameter", param="output_compression", message=message)
    return "jpeg" if asked.output_format == "jpeg" and asked.output_compression is None else "raw"


def answer(asked: OpenAIOutput, seed: int, picture: Picture) -> bytes:
    """The JSON, with what the picture was made with beside it. `usage` is absent: no tokens are counted."""
    return orjson.dumps(answered(asked, seed, picture))


def answered(asked: OpenAIOutput, seed: int, picture: Picture) -> dict[str, Any]:
    """The same as Python has it."""
    quality = BEST if asked.output_compression is None else asked.output_compression
    as_it_is = wanted(asked) == "jpeg"
    content = picture.content if as_it_is else encode.file(picture, asked.output_format, quality)
    return {
        "created": int(time.time()),
        "data": [{"b64_json": base64.b64encode(content).decode()}],
        "output_format": asked.output_format,
        "size": f"{picture.width}x{picture.height}",
        "seed": seed,
        **picture.used,
    }
