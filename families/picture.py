"""From an encoded picture to 8-bit RGB at its working size, and back. Knows nothing of tensors or of models.

Only JPEG, PNG and WebP are decoded, whatever a file calls itself. Pictures are oriented by EXIF and converted to 8-bit
RGB; nothing of the input's metadata survives.
"""

import contextlib
import io
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from families.errors import IMAGE_TOO_LARGE, IMAGE_UNREADABLE, InvalidEditError
from families.settings import count

FORMATS = ("JPEG", "PNG", "WEBP")
RESPONSE_FORMATS = ("jpeg", "raw")
JPEG_QUALITY = 95
SRGB = ImageCms.createProfile("sRGB")
COLORIMETRIC = ImageCms.Intent.RELATIVE_COLORIMETRIC
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


@dataclass(frozen=True)
class DecodingLimits:
    """Bounds on one input picture: encoded bytes, and pixels as its header declares them."""

    max_bytes: int = 52_428_800
    max_pixels: int = 50_000_000

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "DecodingLimits":
        """TRITOUCH_MAX_IMAGE_BYTES and TRITOUCH_MAX_IMAGE_PIXELS, where set.

        Raises ValueError, naming the variable, unless each is a whole number of at least 1.
        """
        return cls(
            max_bytes=count(environment, "TRITOUCH_MAX_IMAGE_BYTES", cls.max_bytes),
            max_pixels=count(environment, "TRITOUCH_MAX_IMAGE_PIXELS", cls.max_pixels),
        )


@dataclass(frozen=True)
class WorkingSize:
    """The numbers of the size rule, in pixels: a family's own, handed to `preprocess` with every picture."""

    max_pixels: int
    multiple: int
    min_side: int
    max_side: int

    def to_json(self) -> bytes:
        """The input `size_rule`."""
        return json.dumps(asdict(self)).encode()

    def of(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) an input picture of this size is edited at, and answered at.

        Aspect kept: scaled down until it has at most `max_pixels` and no side above `max_side`, scaled up only if its
        shorter side is below `min_side`; then each side goes to the nearest multiple of `multiple`, and to the multiple
        below where the nearest would break the budget. Only a strip too thin for both bounds loses its aspect.
        """
        scale = min(1.0, math.sqrt(self.max_pixels / (width * height)))
        scale = max(scale, self.min_side / min(width, height))
        scale = min(scale, self.max_side / max(width, height))
        sides = [self._side(width * scale), self._side(height * scale)]
        while sides[0] * sides[1] > self.max_pixels and max(sides) > self.min_side:
            sides[sides.index(max(sides))] -= self.multiple
        return sides[0], sides[1]

    def _side(self, pixels: float) -> int:
        """The nearest multiple within the bounds; a half goes up."""
        nearest = math.floor(pixels / self.multiple + 0.5) * self.multiple
        return min(max(nearest, self.min_side), self.max_side)


@dataclass(frozen=True)
class PreferredSizes:
    """A size rule of a model that was trained at few sizes, in pixels: (width, height) each."""

    sizes: tuple[tuple[int, int], ...]

    def of(self, width: int, height: int) -> tuple[int, int]:
        """The one whose aspect is nearest to that of an input picture of this size; of two as near, the narrower."""
        aspect = width / height
        return min((abs(aspect - w / h), w, h) for w, h in self.sizes)[1:]

    def to_json(self) -> bytes:
        """The input `size_rule`."""
        return json.dumps(asdict(self)).encode()


SizeRule = WorkingSize | PreferredSizes


def size_rule(text: bytes) -> SizeRule:
    """From the input `size_rule`. Raises ValueError or TypeError for anything else."""
    content = json.loads(text)
    if "sizes" in content:
        return PreferredSizes(tuple((int(w), int(h)) for w, h in content["sizes"]))
    return WorkingSize(**content)


def decode(encoded: bytes, limits: DecodingLimits) -> Image.Image:
    """An encoded JPEG, PNG or WebP as an upright RGB picture; the first frame of an animation.

    Raises InvalidEditError, always with the same words for the same fault: nothing of the decoder's own text.
    """
    if len(encoded) > limits.max_bytes:
        raise InvalidEditError(IMAGE_TOO_LARGE, f"an image may have at most {limits.max_bytes} bytes")
    try:
        with warnings.catch_warnings(), _pillow_refusing_above(limits.max_pixels):
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(encoded), formats=FORMATS)
            width, height = picture.size
            if width * height <= limits.max_pixels:
                return _rgb(_upright(picture))
    except Image.DecompressionBombError:
        pass
    except Exception as error:
        raise InvalidEditError(IMAGE_UNREADABLE, "the image is not a readable JPEG, PNG or WebP") from error
    raise InvalidEditError(IMAGE_TOO_LARGE, f"an image may have at most {limits.max_pixels} pixels")


@contextlib.contextmanager
def _pillow_refusing_above(pixels: int) -> Iterator[None]:
    """Pillow's own limit, which it holds before it makes room for a picture, in place of the one it comes with."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = (pixels + 1) // 2  # it warns above this, and refuses above twice this
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _upright(picture: Image.Image) -> Image.Image:
    """The picture as EXIF orients it; a block that cannot be read is passed over."""
    picture.load()
    turn = None
    with contextlib.suppress(Exception):
        turn = UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)


def _rgb(picture: Image.Image) -> Image.Image:
    """Any mode to RGB: 16-bit grey is scaled, profiles go to sRGB, transparency is laid over white."""
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        grey = np.asarray(picture, np.float32) / 257.0
        picture = Image.fromarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        colours = _srgb(clear.convert("RGB"), picture)
        return Image.composite(colours, Image.new("RGB", picture.size, "white"), clear.getchannel("A"))
    return _srgb(picture.convert("RGB") if picture.mode in ("P", "1") else picture, picture)


def _srgb(colours: Image.Image, source: Image.Image) -> Image.Image:
    """Colours as the embedded profile of `source` means them, in sRGB; a profile that does not fit is passed over."""
    profile = source.info.get("icc_profile")
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "sRGB" in ImageCms.getProfileDescription(embedded):
                return colours.convert("RGB")  # converting would move levels by one, for nothing
            converted = ImageCms.profileToProfile(colours, embedded, SRGB, COLORIMETRIC, outputMode="RGB")
            if converted is not None:
                return converted
    return colours.convert("RGB")


def scale(picture: Image.Image, rule: SizeRule) -> Image.Image:
    """The picture at its working size (Lanczos)."""
    size = rule.of(*picture.size)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def to_tensor(picture: Image.Image) -> NDArray[Any]:
    """RGB picture -> (1, 3, H, W) float32 in [-1, 1]."""
    pixels = np.asarray(picture, np.float32).transpose(2, 0, 1)[None]  # (1, 3, H, W)
    return np.ascontiguousarray(pixels / 255.0 * 2.0 - 1.0)


def from_tensor(pixels: NDArray[Any]) -> NDArray[Any]:
    """(1, 3, H, W) float in [-1, 1], values beyond clipped -> (H, W, 3) uint8."""
    levels = np.clip(pixels[0] * 0.5 + 0.5, 0.0, 1.0) * 255.0
    return np.ascontiguousarray(levels.round().astype(np.uint8).transpose(1, 2, 0))


def to_jpeg(rgb: NDArray[Any]) -> bytes:
    """(H, W, 3) uint8 -> a JPEG file with full-resolution colour and no metadata."""
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()
