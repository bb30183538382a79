"""Pictures that are larger than what an engine was made for: computed in tiles that overlap, and blended.

For autoencoders, where every place of the output depends on its surroundings alone, but by group norm and attention,
which see the tile instead of the picture. So a picture that fits is computed whole. As diffusers' `enable_tiling` has
it, a quarter of a tile overlaps with the next, and there one passes linearly into the other. Unlike there, all tiles of
a picture have one size, so that kernels are made for one shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backends.signature import TILES, parameters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from backends.channel import Infer
    from backends.in_place import Place
    from backends.signature import Array


OVERLAP = 4
"""The part of the largest tile's side that the next one shares: a quarter."""


@dataclass(frozen=True)
class Tiling:
    """What an engine holds of its one input (1, C, h, w): `most` = h x w, the longer side, and what sides and places
    of tiles are multiples of."""

    most: int
    side: int
    unit: int

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Tiling | None:
        """From the parameter ``TILES`` of a parsed ``config.pbtxt``; None without it.

        Raises:
            ValueError: it is not three numbers, or the model has more than one input or output.
        """
        said = parameters(config).get(TILES)
        if said is None:
            return None
        numbers = [int(part) for part in said.split(",") if part.isdecimal()]
        if len(numbers) != 3 or min(numbers) < 1 or said.count(",") != 2:
            raise ValueError(
                f"the parameter {TILES} is {said!r}, and must be pixels, longest side and unit: 4096,128,1"
            )
        if len(config["input"]) != 1 or len(config["output"]) != 1:
            raise ValueError(f"the parameter {TILES} is for models of one input and one output")
        return cls(*numbers)

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """The largest tile of a picture of this size: itself, where it fits, else a square, or a part of a strip."""
        if height * width <= self.most and max(height, width) <= self.side:
            return height, width
        square = math.isqrt(self.most)
        across = min(width, self.side, self.most // min(height, square))
        down = min(height, self.side, self.most // across)
        return self._whole(down), self._whole(across)

    def spans(self, length: int, most: int) -> tuple[int, tuple[int, ...]]:
        """Size and beginnings of the tiles of a side, which are as small as their number lets them be."""
        if length <= most:
            return length, (0,)
        shared = self._whole(most // OVERLAP)
        count = math.ceil((length - shared) / (most - shared))
        size = min(most, -(-(length + (count - 1) * shared) // (count * self.unit)) * self.unit)
        last = (length - size) // self.unit
        return size, tuple(round(place * last / (count - 1)) * self.unit for place in range(count))

    def _whole(self, side: int) -> int:
        return max(self.unit, side // self.unit * self.unit)


def tiled(infer: Infer, tiling: Tiling | None) -> Infer:
    """``infer`` for pictures of any size, (1, C, h, w) of its one input; itself without a tiling."""
    if tiling is None:
        return infer

    def whole_or_tiles(inputs: Mapping[str, Array], _place: Place | None = None) -> dict[str, Array]:
        ((name, picture),) = inputs.items()
        height, width = picture.shape[2:]
        if height % tiling.unit or width % tiling.unit:
            raise ValueError(f"input {name} is {height} x {width}, and sides must be multiples of {tiling.unit}")
        largest = tiling.sides(height, width)
        if largest == (height, width):
            return infer(inputs)
        (down, tops), (across, lefts) = (
            tiling.spans(side, most) for side, most in zip((height, width), largest, strict=True)
        )
        joined: dict[str, Array] = {}
        for row, top in enumerate(tops):
            for column, left in enumerate(lefts):
                made = infer({name: picture[:, :, top : top + down, left : left + across]})
                for output, tile in made.items():
                    whole = joined.setdefault(output, _empty(tile, (height, width), (down, across)))
                    _add(whole, tile, ((tops, row, down), (lefts, column, across)))
        return joined

    return whole_or_tiles


def _empty(tile: Array, picture: tuple[int, int], part: tuple[int, int]) -> Array:
    """Zeros of the whole output, (1, C, H, W), which is to the tile's as the picture is to its part."""
    height, width = (made * whole // own for made, whole, own in zip(tile.shape[2:], picture, part, strict=True))
    return np.zeros((*tile.shape[:2], height, width), tile.dtype)


def _add(whole: Array, tile: Array, places: tuple[tuple[tuple[int, ...], int, int], ...]) -> None:
    """Adds a tile's share. `places`: for each side all beginnings, which of them it is, and the tile's size."""
    slices, shares = [], []
    for made, (starts, number, size) in zip(tile.shape[2:], places, strict=True):
        begin = starts[number] * made // size
        slices.append(slice(begin, begin + made))
        shares.append(_shares(tuple(start * made // size for start in starts), made)[number])
    down, across = shares
    whole[:, :, slices[0], slices[1]] += tile * (down[:, None] * across[None, :]).astype(tile.dtype)


def _shares(starts: tuple[int, ...], size: int) -> list[Array]:
    """How much each of a side's tiles counts at each of its places: together 1, and where two overlap rising from the
    one's edge to the other's."""
    length = starts[-1] + size
    ramps = []
    for number, start in enumerate(starts):
        place = np.arange(size) + 0.5
        before = starts[number - 1] + size - start if number else 0
        after = start + size - starts[number + 1] if number + 1 < len(starts) else 0
        ramp = np.ones(size)
        if before:
            ramp = np.minimum(ramp, place / before)
        if after:
            ramp = np.minimum(ramp, (size - place) / after)
        ramps.append(ramp)
    total = np.zeros(length)
    for start, ramp in zip(starts, ramps, strict=True):
        total[start : start + size] += ramp
    return [ramp / total[start : start + size] for start, ramp in zip(starts, ramps, strict=True)]
