"""Samples of any depth to 8-bit RGB: colours first, then transparency over white, a strip at a time."""

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from families.images.colour import Array, Colours

Box = tuple[int, int, int, int]
"""Left, upper, right, lower: pixels, the last two outside."""
_STRIP_PIXELS = 1 << 20


def over_white(
    size: tuple[int, int], samples: Callable[[Box], Array], colours: Colours, key: tuple[int, ...] | None = None
) -> Image.Image:
    """RGB of the samples of a picture of that (width, height).

    `samples`: of a box, (H, W, C) uint8 or uint16; C is 1 to 4, greys or RGB, with alpha if it is even. `key`: the one
    colour that is transparent, where there is no alpha.
    """
    flat = Image.new("RGB", size)
    for box in strips(size):
        flat.paste(Image.fromarray(levels(samples(box), colours, key)), box)
    return flat


def levels(samples: Array, colours: Colours, key: tuple[int, ...] | None = None) -> Array:
    """Samples -> (H, W, 3) uint8."""
    channels = samples.shape[-1]
    own = colours.levels(samples[..., :3] if channels >= 3 else samples[..., :1])
    if key is not None:
        own = np.where((samples == np.array(key)).all(-1, keepdims=True), own.dtype.type(255), own)
    if channels in (2, 4) and samples.dtype == np.uint16:
        own = 255 - (255 - own) * (samples[..., -1:].astype(np.float32) / np.float32(65535))
    if own.dtype != np.uint8:
        own = (own + np.float32(0.5)).astype(np.uint8)
    if channels in (2, 4) and samples.dtype == np.uint8:
        picture = Image.fromarray(own)
        white = Image.new("RGB", picture.size, "white")
        own = np.asarray(Image.composite(picture, white, Image.fromarray(np.ascontiguousarray(samples[..., -1]))))
    return own


def strips(size: tuple[int, int]) -> Iterator[Box]:
    """A picture of that (width, height) in parts, from top to bottom."""
    width, height = size
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)
