"""Bare pixels as a file. Decodes nothing."""

import io
from typing import Literal

from PIL import Image

from gateway.triton import Picture


def file(picture: Picture, kind: Literal["png", "jpeg", "webp"], quality: int) -> bytes:
    """`picture` (raw 8-bit RGB rows) as a file. `quality`: 0 to 100, which PNG has no use for."""
    image = Image.frombytes("RGB", (picture.width, picture.height), picture.content)
    out = io.BytesIO()
    if kind == "png":
        image.save(out, "PNG", compress_level=1)
    else:
        image.save(out, kind.upper(), quality=quality)
    return out.getvalue()
