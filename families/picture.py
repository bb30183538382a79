"""From an encoded picture to 8-bit RGB at its working size, and back. Knows nothing of tensors or of models.

Only JPEG, PNG and WebP are decoded, whatever a file calls itself. Pictures are oriented by EXIF and converted to 8-bit
RGB in sRGB (`families.images`); nothing of the input's metadata survives.
"""

import contextlib
import io
import math
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from families.errors import IMAGE_TOO_LARGE, IMAGE_UNREADABLE, InvalidEditError
from families.images import png, sources
from families.images.source import About, Source
from families.settings import count
from families.sizes import Framed, Seen, Size, SizeRule

RESPONSE_FORMATS = ("jpeg", "raw")
JPEG_QUALITY = 95
JPEG_MAX_SIDE = 65_500
"""As libjpeg has it."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""
SIDEWAYS = {UPRIGHT[orientation] for orientation in (5, 6, 7, 8)}
"""Those that exchange width and height."""
REDUCED_TO = 2
"""Times the working size, at least, that a JPEG decoded at a part of its size still has."""
_ORIENTATION_IN_XMP = re.compile(rb"tiff:Orientation(?:=\"|>)([0-9])")


@dataclass(frozen=True)
class DecodingLimits:
    """Bounds on one input picture: encoded bytes, and pixels as its header declares them."""

    max_bytes: int = 52_428_800
    max_pixels: int = 8192 * 6144
    """Of a JPEG of one scan, which can be decoded at half its size, four times as many."""
    max_side: int = 65_535
    max_ratio: int = 1_000
    """Of the longer side to the shorter."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "DecodingLimits":
        """TRITOUCH_MAX_IMAGE_BYTES and TRITOUCH_MAX_IMAGE_PIXELS, where set.

        Raises ValueError, naming the variable, unless each is a whole number of at least 1.
        """
        return cls(
            max_bytes=count(environment, "TRITOUCH_MAX_IMAGE_BYTES", cls.max_bytes),
            max_pixels=count(environment, "TRITOUCH_MAX_IMAGE_PIXELS", cls.max_pixels),
        )

    def check(self, size: tuple[int, int], most_pixels: int) -> None:
        """Raises InvalidEditError, naming the limit, for a (width, height) that is too large, long or thin.

        `most_pixels`: what `max_pixels` allows a file of this kind.
        """
        long, short = max(size), min(size)
        if long * short > most_pixels:
            raise too_many(most_pixels)
        if long > self.max_side:
            raise InvalidEditError(IMAGE_TOO_LARGE, f"an image's longer side may have at most {self.max_side} pixels")
        if long > self.max_ratio * short:
            message = f"an image's longer side may be at most {self.max_ratio} times its shorter one"
            raise InvalidEditError(IMAGE_TOO_LARGE, message)


def too_many(most_pixels: int) -> InvalidEditError:
    """The error of a picture with more pixels than that."""
    return InvalidEditError(IMAGE_TOO_LARGE, f"an image of this kind may have at most {most_pixels} pixels")


def decode(encoded: bytes, limits: DecodingLimits, rule: SizeRule | None = None) -> Image.Image:
    """An encoded JPEG, PNG or WebP as an upright RGB picture at its working size; the first frame of an animation.

    Without a rule it keeps its size, unless it is a JPEG with more than `limits.max_pixels`.
    Raises InvalidEditError and nothing else, always with the same words for the same fault: nothing of the decoder's.
    """
    return _readable(encoded, limits, lambda: _decoded(encoded, limits, rule))


def decode_alpha(encoded: bytes, limits: DecodingLimits) -> Image.Image:
    """How opaque each pixel of a PNG is, upright: mode L, 0 wholly transparent. Raises as `decode` does."""

    def alpha() -> Image.Image:
        source = png.read(encoded)
        picture = _opened(source, limits.max_pixels)
        limits.check(picture.size, limits.max_pixels)
        return _turned(source.alpha(picture), _turn(source.exif, source.xmp))

    return _readable(encoded, limits, alpha)


def _readable(encoded: bytes, limits: DecodingLimits, read: Callable[[], Image.Image]) -> Image.Image:
    """What `read` gives. Raises InvalidEditError and nothing else."""
    if len(encoded) > limits.max_bytes:
        raise InvalidEditError(IMAGE_TOO_LARGE, f"an image may have at most {limits.max_bytes} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except InvalidEditError:
        raise
    except MemoryError as error:
        raise InvalidEditError(IMAGE_TOO_LARGE, "the image takes more memory than this server has") from error
    except Exception as error:
        raise unreadable() from error


def warm() -> None:
    """Reads a picture of each format, so that no first one waits for what is imported or set up only then."""
    for kind in ("JPEG", "PNG", "WEBP"):
        out = io.BytesIO()
        Image.new("RGB", (256, 256)).save(out, kind)
        to_tensor(decode(out.getvalue(), DecodingLimits()))


def _decoded(encoded: bytes, limits: DecodingLimits, rule: SizeRule | None) -> Image.Image:
    source = sources.read(encoded)
    most = source.most_pixels(limits.max_pixels)
    picture = _opened(source, most)
    limits.check(picture.size, most)
    turn = _turn(source.exif, source.xmp)
    size = picture.size
    if rule is not None:
        size = rule.of(*size) if turn not in SIDEWAYS else rule.of(*size[::-1])[::-1]
    flat = source.flat(picture, _reduction(picture.size, size, limits.max_pixels))
    if rule is not None:
        flat = scaled(flat, size)
    upright = _turned(flat, turn)
    if isinstance(rule, Seen):
        return _seen(upright, rule)
    return mirrored(upright, rule.frame) if isinstance(rule, Framed) else upright


def _seen(picture: Image.Image, rule: Seen) -> Image.Image:
    """What is left to be done of the rule, whose first size the picture has."""
    for size in rule.sizes:
        picture = scaled(picture, size)
    return picture.resize(rule.seen, Image.Resampling.BICUBIC)


def _opened(source: Source, most_pixels: int) -> Image.Image:
    """The picture, not loaded. Pillow's own limit, which holds before it makes room, is this one for a while."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = (most_pixels + 1) // 2  # it warns above this, and refuses above twice this
    try:
        return Image.open(io.BytesIO(source.pixels), formats=(source.FORMAT,))
    except Image.DecompressionBombError:
        raise too_many(most_pixels) from None
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _reduction(size: tuple[int, int], target: tuple[int, int], most_pixels: int) -> int:
    """By how much a JPEG's sides are divided while it is decoded: 1, 2, 4 or 8.

    As much as leaves `REDUCED_TO` times the target for scaling, and enough for `most_pixels`.
    """
    spare = min(side / wanted for side, wanted in zip(size, target, strict=True)) / REDUCED_TO
    enough = next((by for by in (8, 4, 2) if by <= spare), 1)
    needed = next((by for by in (1, 2, 4) if math.prod(-(-side // by) for side in size) <= most_pixels), 8)
    return max(enough, needed)


def own_size(encoded: bytes) -> Size:
    """The (width, height) of the upright picture, by the file's header alone: nothing is decoded, nor bounded.

    Raises InvalidEditError where it does not tell.
    """
    try:
        about: About = sources.about(encoded)
        width, height = about.size
        if min(width, height) < 1:
            raise ValueError("no pixels")
    except (ValueError, LookupError, struct.error) as error:
        raise unreadable() from error
    return (height, width) if _turn(about.exif, about.xmp) in SIDEWAYS else (width, height)


def unreadable() -> InvalidEditError:
    """The error of a picture that is none, or broken."""
    return InvalidEditError(IMAGE_UNREADABLE, "the image is not a readable JPEG, PNG or WebP")


def _turn(exif_file: bytes, xmp: bytes) -> Image.Transpose | None:
    """What makes the picture upright by EXIF, or XMP where EXIF does not tell; what cannot be read is passed over."""
    exif = Image.Exif()
    with contextlib.suppress(Exception):
        exif.load(exif_file)
        if ExifTags.Base.Orientation in exif:
            return UPRIGHT.get(exif[ExifTags.Base.Orientation])
    told = _ORIENTATION_IN_XMP.search(xmp)
    return UPRIGHT.get(int(told[1])) if told else None


def _turned(picture: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    """The picture as `_turn` says; itself where it says nothing."""
    return picture if turn is None else picture.transpose(turn)


def scale(picture: Image.Image, rule: SizeRule) -> Image.Image:
    """The picture at its working size (Lanczos)."""
    return scaled(picture, rule.of(*picture.size))


def mirrored(picture: Image.Image, frame: Size) -> Image.Image:
    """The picture in the middle of a larger frame, its margins mirrored, as often as it takes."""
    (width, height), (across, down) = picture.size, frame
    left, top = (across - width) // 2, (down - height) // 2
    margins = ((top, down - height - top), (left, across - width - left), (0, 0))
    return Image.fromarray(np.pad(np.asarray(picture), margins, mode="symmetric"))


def scaled(picture: Image.Image, size: Size) -> Image.Image:
    """The picture at that size (Lanczos); itself where it has it."""
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def to_tensor(picture: Image.Image) -> NDArray[Any]:
    """RGB picture -> (1, 3, H, W) float32 in [-1, 1]."""
    pixels = np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1)[None], np.float32)  # (1, 3, H, W)
    pixels /= 255.0
    pixels *= 2.0
    pixels -= 1.0
    return pixels


def from_tensor(pixels: NDArray[Any]) -> NDArray[Any]:
    """(1, 3, H, W) float in [-1, 1], values beyond clipped -> (H, W, 3) uint8."""
    levels = np.clip(pixels[0] * 0.5 + 0.5, 0.0, 1.0) * 255.0
    return np.ascontiguousarray(levels.round().astype(np.uint8).transpose(1, 2, 0))


def to_jpeg(rgb: NDArray[Any]) -> bytes:
    """(H, W, 3) uint8 -> a JPEG file with full-resolution colour and no metadata."""
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()
