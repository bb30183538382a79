"""What the three formats have in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from PIL import Image

MAX_PROFILE_BYTES = 1 << 24
"""Larger colour profiles are passed over. Those of printers have some 3 MiB."""
MAX_PARTS = 100_000
"""Chunks or segments of one file. An encoder that writes the smallest sensible ones stays below a tenth of it."""


class About(NamedTuple):
    """What a file says of itself before it is decoded: (width, height) as it lies there, and as `Source` has them."""

    size: tuple[int, int]
    exif: bytes
    xmp: bytes


@dataclass(frozen=True)
class Source(ABC):
    """A picture file, split.

    `pixels`: a file of the same format without anything else. `profiles`: ICC profiles that may say what its colours
    mean, the best first. `exif`: a TIFF file, with or without `Exif` before it. `xmp`: XML.
    """

    FORMAT: ClassVar[str]
    """Pillow's name for the format."""
    pixels: bytes
    profiles: tuple[bytes, ...] = ()
    exif: bytes = b""
    xmp: bytes = b""

    def most_pixels(self, decoded: int) -> int:
        """How many pixels this file may have, if `decoded` of them may be in memory."""
        return decoded

    @abstractmethod
    def flat(self, picture: Image.Image, reduction: int) -> Image.Image:
        """All of the picture, RGB in sRGB, over white.

        `picture`: the file of pixels, as Pillow opens it, not loaded yet. `reduction`: 1, 2, 4 or 8, by which a format
        that can, and no other, makes both sides smaller while it decodes.
        Raises whatever Pillow raises when pixels are lacking.
        """
