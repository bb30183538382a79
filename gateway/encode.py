"""Bare pixels as a file. Decodes nothing."""

import io
from typing import Final, Literal

from PIL import Image

from gateway import sides
from gateway.pictures import Picture

OPTIONS: Final[dict[str, dict[str, int]]] = {"png": {"compress_level": 1}, "jpeg": {"subsampling": 0}, "webp": {}}


def file(picture: Picture, kind: Literal["png", "jpeg", "webp"], quality: int) -> bytes:
    """`picture` (raw 8-bit RGB rows) as a file, of full-resolution colour if JPEG. `quality`: 0 to 100, not for PNG.

    Raises `PublicError("size_unavailable")` where such a file cannot hold it.
    """
    sides.check((picture.width, picture.height), kind)
    image = Image.frombytes("RGB", (picture.width, picture.height), picture.content)
    out = io.BytesIO()
    image.save(out, kind, quality=quality, **OPTIONS[kind])
    return out.getvalue()
