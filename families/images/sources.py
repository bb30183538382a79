"""Which format a file is of, and how much work, by its first bytes."""

import contextlib
import math
import struct

from families.images import jpeg, png, webp
from families.images.source import About, Source


def read(encoded: bytes) -> Source:
    """The file, split. Raises ValueError, LookupError or struct.error when it is none of ours, or holds no picture."""
    if encoded.startswith(jpeg.SIGNATURE):
        return jpeg.read(encoded)
    if encoded.startswith(png.SIGNATURE):
        return png.read(encoded)
    if webp.matches(encoded):
        return webp.read(encoded)
    raise ValueError("another format")


def about(encoded: bytes) -> About:
    """What its header tells. Raises as `read` does."""
    if encoded.startswith(jpeg.SIGNATURE):
        return jpeg.about(encoded)
    if encoded.startswith(png.SIGNATURE):
        return png.about(encoded)
    if webp.matches(encoded):
        return webp.about(encoded)
    raise ValueError("another format")


def pixels_held(encoded: bytes) -> int:
    """About how many pixels are in memory while the file is decoded; 0 where its header does not tell."""
    with contextlib.suppress(ValueError, LookupError, struct.error):
        if encoded.startswith(jpeg.SIGNATURE):
            return jpeg.pixels_held(encoded)
        if encoded.startswith(png.SIGNATURE):
            return math.prod(struct.unpack_from(">II", encoded, 16))
        if webp.matches(encoded):
            return math.prod(webp.size(encoded))
    return 0
