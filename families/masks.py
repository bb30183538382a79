"""Masks: PNGs whose alpha 0 means "edit here". What they are checked for, and where they let a picture change.

Knows files and arrays; nothing of latents' meaning or of Triton.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from families.errors import IMAGE_TOO_LARGE, MASK_INVALID, InvalidEditError
from families.images import png
from families.picture import DecodingLimits, decode, decode_alpha, own_size
from families.sizes import Size, exactly

FEATHER = 4
"""Pixels of the answer, inside the mask, over which an edit comes in."""
HALF = 128
"""Of 255: where a mask is scaled, a pixel is inside whose larger part is."""
HELD = 2
"""Requests with a mask whose decoded original is kept: one that is answered, and one whose previews come between."""
Free = NDArray[np.bool_]
"""(H, W): where a picture may change."""


def require_fitting(mask: bytes, own: Size, limits: DecodingLimits) -> None:
    """Raises InvalidEditError, by the header alone, for what is no PNG with alpha, or not as large as the picture of
    `own` (width, height). Of one with more pixels than a PNG may have, it may be half as wide and high."""
    try:
        has_alpha = mask.startswith(png.SIGNATURE) and png.has_alpha(mask)
        size = own_size(mask) if has_alpha else own
    except (InvalidEditError, ValueError, LookupError):
        has_alpha, size = False, own
    if not has_alpha:
        raise InvalidEditError(MASK_INVALID, "the mask is not a PNG with an alpha channel")
    fitting = (own, half(own)) if own[0] * own[1] > limits.max_pixels else (own,)
    if size not in fitting:
        sizes = " or ".join(f"{width} x {height}" for width, height in fitting)
        raise InvalidEditError(MASK_INVALID, f"the mask must be as large as the first image: {sizes}")


def half(size: Size) -> Size:
    """As large as a JPEG is that is decoded at half its size."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def free(mask: bytes, limits: DecodingLimits) -> Free:
    """Where its alpha is 0, upright, at its own size.

    Raises InvalidEditError where that is nowhere, or it cannot be read.
    """
    try:
        alpha = decode_alpha(mask, limits)
    except InvalidEditError as error:
        large = error.code == IMAGE_TOO_LARGE
        reason = "has more pixels than a PNG may have: give one half as wide and high" if large else "is broken"
        raise InvalidEditError(MASK_INVALID, f"the mask {reason}") from error
    found: Free = np.asarray(alpha) == 0
    if not found.any():
        raise InvalidEditError(MASK_INVALID, "the mask has no transparent pixel: nothing would be edited")
    return found


@dataclass(frozen=True)
class Grid:
    """The rule by which `preprocess` is asked for a mask rather than a picture: (width, height) in latents."""

    grid: Size

    def to_json(self) -> bytes:
        """The input `size_rule`."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, text: bytes) -> "Grid | None":
        """None for the rule of a picture."""
        content = json.loads(text)
        return cls((int(content["grid"][0]), int(content["grid"][1]))) if "grid" in content else None

    def of(self, inside: Free) -> NDArray[np.float32]:
        """(1, 1, h, w): 1 where any pixel of a latent may change, else 0."""
        width, height = self.grid
        rows = np.stack([inside[part].any(axis=0) for part in _parts(inside.shape[0], height)])
        found = np.stack([rows[:, part].any(axis=1) for part in _parts(inside.shape[1], width)], axis=1)
        changing: NDArray[np.float32] = found[None, None].astype(np.float32)
        return changing


def _parts(pixels: int, latents: int) -> Iterator[slice]:
    """The pixels that each latent lies over, wholly or in part."""
    return (slice(at * pixels // latents, -(-(at + 1) * pixels // latents)) for at in range(latents))


def composed(edited: NDArray[Any], original: bytes, mask: bytes, limits: DecodingLimits) -> NDArray[Any]:
    """`edited` (H, W, 3) uint8 where the mask lets it, and elsewhere the original, scaled to the same size."""
    kept, weights = _held(original, mask, (edited.shape[1], edited.shape[0]), limits)
    return ((kept + edited * weights + (FEATHER + 1) // 2) // (FEATHER + 1)).astype(np.uint8)


@lru_cache(maxsize=HELD)
def _held(
    original: bytes, mask: bytes, size: Size, limits: DecodingLimits
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """The original's share of the sum (H, W, 3), and the weights of what was edited (H, W, 1): once for all pictures of
    a request, and their previews."""
    inside = Image.fromarray(free(mask, limits).astype(np.uint8) * 255)
    weights = feathered(np.asarray(inside.resize(size, Image.Resampling.BOX)) >= HALF)[..., None]
    kept = np.asarray(decode(original, limits, exactly(size))).astype(np.uint16)
    return kept * (FEATHER + 1 - weights), weights


def feathered(inside: Free) -> NDArray[np.uint16]:
    """(H, W), from 0 outside to `FEATHER` + 1: by how many pixels a place is inside. The picture's edge is none."""
    depth = inside.astype(np.uint16)
    for _ in range(FEATHER):
        padded = np.pad(inside, 1, constant_values=True)
        down = padded[:-2] & padded[1:-1] & padded[2:]
        inside = down[:, :-2] & down[:, 1:-1] & down[:, 2:]
        depth += inside
    return depth
