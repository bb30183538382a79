"""Qwen2.5-VL's inputs: at which size it sees a picture, and where text and pictures stand in one sequence.

Imports no torch. Source: transformers' `Qwen2VLImageProcessorPil`, `Qwen2VLProcessor` and `get_rope_index`. The picture
is scaled by `preprocess` (`families.sizes.Seen`), and normalised and cut into patches by the engine itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from families.errors import BadCheckpointError
from families.interface import Array
from families.parts.configs import fields_of, read_json
from families.sizes import Size

FILES = ("preprocessor_config.json", "processor_config.json")
"""Of a processor's folder, one: as transformers wrote it until its version 4, and since."""
IMAGE_PAD = "<|image_pad|>"
"""Stands in a text for a picture, and in token ids for each of its tokens."""
LONGEST_ASPECT = 200
"""Of the longer side to the shorter: what the processor refuses is more."""
NO_PLACE = -1
"""Of a token that is text."""
PADDING = -2
"""Of a token that no token sees, itself neither."""


@dataclass(frozen=True)
class Sight:
    """How pictures are prepared, in pixels: `patch` a side, of which `merge` x `merge` become one token."""

    patch: int
    merge: int
    least: int
    most: int
    """Pixels of a picture."""
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    """By channel, of values in [0, 1]."""

    @property
    def unit(self) -> int:
        """Pixels along one side of a token."""
        return self.patch * self.merge

    @classmethod
    def read(cls, folder: Path) -> "Sight":
        """Of a checkpoint's processor. Raises BadCheckpointError."""
        file = next((folder / name for name in FILES if (folder / name).exists()), folder / FILES[0])
        content = read_json(file)
        config = content.get("image_processor", content)
        with fields_of(file):
            size = config.get("size") or {}
            sight = cls(
                patch=int(config.get("patch_size", 14)),
                merge=int(config.get("merge_size", 2)),
                least=int(config.get("min_pixels") or size["shortest_edge"]),
                most=int(config.get("max_pixels") or size["longest_edge"]),
                mean=tuple(map(float, config["image_mean"])),
                deviation=tuple(map(float, config["image_std"])),
            )
        if min(sight.patch, sight.merge) < 1 or not sight.unit**2 <= sight.least <= sight.most:
            raise BadCheckpointError(f"{file}: its sizes are not those of pictures")
        return sight

    def of(self, width: int, height: int) -> Size:
        """The (width, height) that a picture of this size is seen at: `smart_resize`. Raises ValueError."""
        if max(width, height) > LONGEST_ASPECT * min(width, height):
            raise ValueError(f"a side may be at most {LONGEST_ASPECT} times the other")
        unit = self.unit
        seen = round(width / unit) * unit, round(height / unit) * unit
        if seen[0] * seen[1] > self.most:
            shrink = math.sqrt((height * width) / self.most)
            return (
                max(unit, math.floor(width / shrink / unit) * unit),
                max(unit, math.floor(height / shrink / unit) * unit),
            )
        if seen[0] * seen[1] < self.least:
            grow = math.sqrt(self.least / (height * width))
            return math.ceil(width * grow / unit) * unit, math.ceil(height * grow / unit) * unit
        return seen

    def grid(self, seen: Size) -> tuple[int, int]:
        """The (rows, columns) of tokens of a picture that is seen at this size."""
        return seen[1] // self.unit, seen[0] // self.unit


def lay_out(ids: Sequence[int], image_pad: int, grids: Sequence[tuple[int, int]]) -> dict[str, Array]:
    """One sequence's inputs of the text model. `ids`: of the text, `image_pad` once for each picture; `grids`: the
    (rows, columns) of each picture's tokens.

    `input_ids` (1, T) int64, where each picture is as many tokens as it has; `position_ids` (3, T) int64: time, row
    and column, which grow by one from token to token of text, and by a picture's longer side over a picture;
    `vision_places` (1, T) int64: which token of all pictures' stands there, NO_PLACE for text.
    Raises ValueError where there are not as many pictures as `ids` names.
    """
    if list(ids).count(image_pad) != len(grids):
        raise ValueError(f"the text names {list(ids).count(image_pad)} pictures, and there are {len(grids)}")
    parts, begin, seen, left = list[Array](), 0, 0, iter(grids)
    for token in ids:
        if token != image_pad:
            parts.append(np.array([[token], [begin], [begin], [begin], [NO_PLACE]], np.int64))
            begin += 1
            continue
        rows, columns = next(left)
        row, column = (axis.ravel() for axis in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
        same = np.full_like(row, begin)
        places = seen + np.arange(rows * columns)
        parts.append(np.stack([np.full_like(row, token), same, begin + row, begin + column, places]))
        begin, seen = begin + max(rows, columns), seen + rows * columns
    whole = np.concatenate(parts, axis=1).astype(np.int64)
    return {"input_ids": whole[:1], "position_ids": whole[1:4], "vision_places": whole[4:]}


def sample_places(tokens: int) -> Array:
    """`vision_places` (1, `tokens`) of a text with a picture of two tokens in its middle."""
    places = np.full((1, tokens), NO_PLACE, np.int64)
    places[0, tokens // 3 : tokens // 3 + 2] = (0, 1)
    return places


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The numbers of the text model in the config of the whole; those of before transformers 4.52 have none apart."""
    found: Mapping[str, Any] = config.get("text_config") or config
    return found
