"""How long the sides of a file may be, and how long those of an edit's answer will be, before it is made.

Knows of a picture what its file begins with, and no more: what that does not tell is left to who decodes it.
"""

import math
import re
import struct
from collections.abc import Mapping
from typing import Final

from gateway.errors import KINDS, PublicError

Size = tuple[int, int]

MOST: Final[Mapping[str, int]] = {"jpeg": 65_500, "webp": 16_383}
"""Pixels of a side by the file's format, as libjpeg and libwebp have them. A PNG may have more than any picture."""
_MOST_SEGMENTS: Final = 100_000
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_SEGMENT: Final = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)  # of fill bytes the last: none is read twice
_MOST_BETWEEN: Final = 65_536
"""Bytes between two segments of a JPEG that are passed over: while they are, nothing else runs."""
_JPEG_END: Final = (0xD9, 0xDA)  # of the file, or of all that stands before the pixels
_JPEG_FRAMES: Final = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def check(size: Size, kind: str) -> None:
    """Raises `PublicError("size_unavailable")` where a file of this kind cannot hold a picture of that size."""
    most = MOST.get(kind)
    if most is not None and max(size) > most:
        message = f"{KINDS['size_unavailable'].message} A {kind} has at most {most} pixels a side."
        raise PublicError("size_unavailable", param="output_format", message=message)


def too_long(content: bytes, kind: str) -> Size | None:
    """The (width, height) of a picture that itself is too long for a file of this kind; None of others.

    Upright or not: it is about the longer side.
    """
    size = size_of(content)
    return size if max(size) > MOST.get(kind, math.inf) else None


def within(own: Size, max_pixels: int) -> Size:
    """The size of the answer to a picture of `own` size where none is asked for, as the model repository has it."""
    width, height = own
    if width * height <= max_pixels:
        return own
    halves = math.isqrt(4 * max_pixels * width // height), math.isqrt(4 * max_pixels * height // width)
    nearest = (halves[0] + 1) // 2, (halves[1] + 1) // 2
    return nearest if nearest[0] * nearest[1] <= max_pixels else (halves[0] // 2, halves[1] // 2)


def size_of(content: bytes) -> Size:
    """The (width, height) that a JPEG, PNG or WebP tells before its pixels; zeros where it tells none."""
    try:
        if content.startswith(_PNG):
            width, height = struct.unpack_from(">II", content, 16)
        else:
            width, height = _of_webp(content) if content.startswith(b"RIFF") else _of_jpeg(content)
    except struct.error:
        return 0, 0
    return (width, height) if width and height else (0, 0)


def _of_webp(content: bytes) -> Size:
    if content[12:16] == b"VP8X":
        low, width, lower, height = struct.unpack_from("<BHBH", content, 24)
        return low + (width << 8) + 1, lower + (height << 8) + 1
    if content[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, 26)
    return width & 0x3FFF, height & 0x3FFF


def _of_jpeg(content: bytes) -> Size:
    """Of the first frame. Raises `struct.error`."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        found = _SEGMENT.search(content, at, at + _MOST_BETWEEN)
        if found is None or found[1][0] in _JPEG_END:
            break
        if found[1][0] in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", content, found.end() + 3)
            return width, height
        at = found.end() + max(int.from_bytes(content[found.end() : found.end() + 2], "big"), 2)
    return 0, 0
