"""WebP: its chunks, and of an animation the first frame."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from families.images.colour import meaning
from families.images.flat import over_white
from families.images.source import MAX_PARTS, About, Source

_EXTENDED, _ANIMATION, _FRAME = b"VP8X", b"ANIM", b"ANMF"
_STILL = (b"ALPH", b"VP8 ", b"VP8L")
_ANIMATED, _ALPHA = 2, 16
"""Flags of the extended header."""
_MOST_BYTES = 2**32 - 10
"""That RIFF's length may tell."""


@dataclass(frozen=True)
class WebP(Source):
    """A WebP."""

    FORMAT: ClassVar[str] = "WEBP"

    def flat(self, picture: Image.Image, reduction: int) -> Image.Image:  # noqa: ARG002
        picture.load()
        colours = meaning(self.profiles, 3)
        if picture.mode == "RGB":
            return colours.picture(picture)
        return over_white(picture.size, lambda box: np.asarray(picture.crop(box)), colours)


def matches(encoded: bytes) -> bool:
    """Whether the first bytes are those of a WebP."""
    return encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP"


def size(encoded: bytes) -> tuple[int, int]:
    """Width and height, as the first chunk tells them. Raises KeyError or struct.error when it does not."""
    name = encoded[12:16]
    if name == _EXTENDED:
        width, height = (int.from_bytes(encoded[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if name == b"VP8L":
        (bits,) = struct.unpack_from("<I", encoded, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", encoded, 26)
    return width & 0x3FFF, height & 0x3FFF


def about(encoded: bytes) -> About:
    """Raises ValueError, KeyError or struct.error where it has no header."""
    if encoded[12:16] not in (_EXTENDED, *_STILL):
        raise ValueError("no header")
    texts: dict[bytes, bytes] = {}
    for name, _, content in _chunks(encoded):
        texts.setdefault(name, content)
    return About(size(encoded), texts.get(b"EXIF", b""), texts.get(b"XMP ", b""))


def read(encoded: bytes) -> WebP:
    """Raises ValueError when it has no pixels or no possible length."""
    if struct.unpack_from("<I", encoded, 4)[0] > _MOST_BYTES:
        raise ValueError("no length")
    found: dict[bytes, tuple[int, bytes]] = {}
    for name, length, content in _chunks(encoded):
        found.setdefault(name, (length, content))
    header = found.get(_EXTENDED, (0, b""))[1]
    animated = bool(header[:1]) and bool(header[0] & _ANIMATED)
    names = (_ANIMATION, _FRAME) if animated else _STILL
    body = b"".join(_chunk(name, *found[name]) for name in names if name in found)
    if header:
        flags = header[0] & (_ALPHA | _ANIMATED)
        body = _chunk(_EXTENDED, len(header), bytes([flags]) + header[1:]) + body
    texts = {name: found[name][1] for name in (b"ICCP", b"EXIF", b"XMP ") if name in found}
    return WebP(
        pixels=b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body,
        profiles=(texts.get(b"ICCP", b""),),
        exif=texts.get(b"EXIF", b""),
        xmp=texts.get(b"XMP ", b""),
    )


def _chunks(encoded: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Name, length as told, content as far as the file goes. Raises ValueError when there are too many."""
    at = 12
    for _ in range(MAX_PARTS):
        if at + 8 > len(encoded):
            return
        name, length = struct.unpack_from("<4sI", encoded, at)
        yield name, length, encoded[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    raise ValueError("too many chunks")


def _chunk(name: bytes, length: int, content: bytes) -> bytes:
    return name + struct.pack("<I", length) + content + bytes(len(content) % 2)
