"""JPEG: its segments, pictures decoded at a part of their size, and files that lack their end."""

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar, NamedTuple

import numpy as np
from PIL import Image, ImageChops

from families.images.colour import meaning
from families.images.flat import over_white
from families.images.source import MAX_PARTS, About, Source

SIGNATURE = b"\xff\xd8\xff"
_START, _END, _SCAN, _EXIF_OR_XMP, _PROFILE, _ADOBE, _COMMENT = 0xD8, 0xD9, 0xDA, 0xE1, 0xE2, 0xEE, 0xFE
_APPLICATIONS = range(0xE0, 0xF0)
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""A marker that begins a segment: neither a stuffed byte of a scan nor a restart. Of fill bytes the last: were all of
them looked for, a file of nothing else would be read anew from each."""
_NEEDED = {0xE0: 14, _ADOBE: 12}
"""Segments that tell libjpeg what the components are, and the bytes that they have if they are whole."""
_MAX_SCANS = 32
"""Encoders write some ten. libjpeg goes over the whole picture for each, however empty."""
_FILLER = np.random.default_rng(0).integers(1, 255, 512, np.uint8).tobytes()
"""Bytes of no meaning, and no marker."""


class Segment(NamedTuple):
    """One segment. `start` is where its marker begins, in bytes of the file, `end` where its content is over."""

    marker: int
    content: bytes
    start: int
    end: int


@dataclass(frozen=True)
class Jpeg(Source):
    """A JPEG.

    `in_one_scan`: it is decoded row by row; otherwise all of its coefficients are in memory first. `has_all_scans`:
    no scan is missing, be the last one whole or not.
    """

    FORMAT: ClassVar[str] = "JPEG"
    in_one_scan: bool = True
    has_all_scans: bool = True

    def most_pixels(self, decoded: int) -> int:
        """Four times as many where it can be decoded at half its size or less, by rows."""
        return 4 * decoded if self.in_one_scan else decoded

    def flat(self, picture: Image.Image, reduction: int) -> Image.Image:
        whole = self._loaded(picture, reduction)
        if whole.mode == "L":
            return over_white(whole.size, lambda box: np.asarray(whole.crop(box))[..., None], meaning(self.profiles, 1))
        return meaning(self.profiles, len(whole.mode)).picture(whole)

    def _loaded(self, picture: Image.Image, reduction: int) -> Image.Image:
        """The picture with all of its pixels.

        What lacks no more than its end comes out the same, whatever follows; what lacks more takes that for pixels.
        """
        try:
            return _reduced(picture, reduction)
        except OSError:
            if not self.has_all_scans:
                raise
            begun = self.pixels.rstrip(b"\xff")
            ends = (b"\xff\xd9", _FILLER + b"\xff\xd9")
            one, other = (_reduced(Image.open(io.BytesIO(begun + end), formats=("JPEG",)), reduction) for end in ends)
            if ImageChops.difference(one, other).getbbox() is not None:
                raise
            return one


def read(encoded: bytes) -> Jpeg:
    """Raises ValueError when it has no scan, or too many."""
    segments = list(_segments(encoded))
    scans = [segment for segment in segments if segment.marker == _SCAN]
    frame = next((segment.content for segment in segments if segment.marker in _FRAMES), b"")
    if not 0 < len(scans) <= _MAX_SCANS or not frame:
        raise ValueError("no scan, or too many")
    head = [segment for segment in segments if segment.start < scans[0].start]
    kept = b"".join(encoded[segment.start : segment.end] for segment in head if _is_of_pixels(segment))
    exif, xmp = _exif_and_xmp(head)
    progressive = any(segment.marker in _PROGRESSIVE for segment in head)
    return Jpeg(
        pixels=b"\xff\xd8" + kept + encoded[scans[0].start :],
        profiles=tuple(_profile([segment.content for segment in head if segment.marker == _PROFILE])),
        exif=exif,
        xmp=xmp,
        in_one_scan=not progressive and scans[0].content[:1] == frame[5:6],
        has_all_scans=_has_all_scans(frame, [scan.content for scan in scans], progressive),
    )


def about(encoded: bytes) -> About:
    """By what stands before its first scan. Raises ValueError or struct.error where that tells no size."""
    head = list(takewhile(lambda segment: segment.marker != _SCAN, _segments(encoded)))
    frame = next((segment.content for segment in head if segment.marker in _FRAMES), b"")
    height, width = struct.unpack_from(">HH", frame, 1)
    return About((width, height), *_exif_and_xmp(head))


def _exif_and_xmp(head: list[Segment]) -> tuple[bytes, bytes]:
    told = [segment.content for segment in head if segment.marker == _EXIF_OR_XMP]
    exif = b"".join(content[6:] for content in told if content.startswith(b"Exif\0\0"))
    return exif, next((content for content in told if content.startswith(b"http://ns.adobe.com/xap/1.0/\0")), b"")


def pixels_held(encoded: bytes) -> int:
    """All of them where coefficients are kept, else one in 16: what has many is reduced by four or more."""
    for marker, content, *_ in _segments(encoded):
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", content, 1)
            return int(height * width) if marker in _PROGRESSIVE else height * width // 16
    return 0


def _segments(encoded: bytes) -> Iterator[Segment]:
    """Up to the end, or as far as the file goes; what lies between segments is passed over. Raises ValueError when
    there are too many."""
    at = 2
    for _ in range(MAX_PARTS):
        found = _MARKER.search(encoded, at)
        if found is None or found[1][0] == _END:
            return
        length = int.from_bytes(encoded[found.end() : found.end() + 2], "big")
        at = found.end() + max(length, 2)
        yield Segment(found[1][0], encoded[found.end() + 2 : at], found.start(), at)
    raise ValueError("too many segments")


def _is_of_pixels(segment: Segment) -> bool:
    if segment.marker in _NEEDED:
        return len(segment.content) >= _NEEDED[segment.marker]
    return segment.marker not in _APPLICATIONS and segment.marker != _COMMENT


def _profile(contents: list[bytes]) -> Iterator[bytes]:
    """The profile, from its numbered parts, if all are there."""
    parts = sorted(content[12:] for content in contents if content.startswith(b"ICC_PROFILE\0") and len(content) > 14)
    if [part[0] for part in parts] == list(range(1, len(parts) + 1)) and all(part[1] == len(parts) for part in parts):
        yield b"".join(part[2:] for part in parts)


def _has_all_scans(frame: bytes, scans: list[bytes], progressive: bool) -> bool:
    """Whether every coefficient of every component is told to its last bit, or would be if the last scan is whole."""
    told: set[tuple[int, int]] = set()
    for scan in scans:
        count = scan[0] if scan else 0
        first, last, bits = scan[1 + 2 * count : 4 + 2 * count].ljust(3, b"\0")
        if not progressive or bits & 15 == 0:
            coefficients = range(first, last + 1) if progressive else range(64)
            told.update((component, at) for component in scan[1 : 1 + 2 * count : 2] for at in coefficients)
    return all((component, at) in told for component in frame[6::3] for at in range(64))


def _reduced(picture: Image.Image, reduction: int) -> Image.Image:
    """The picture, loaded, its sides divided by 1, 2, 4 or 8 and rounded up."""
    width, height = picture.size
    picture.draft(None, (max(1, width // reduction), max(1, height // reduction)))
    picture.load()
    return picture
