"""The table's rows of Qwen2.5-VL: `vision_encoder`, of one picture, `text_encoder`, of one text. Imports no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from families.interface import PIXELS, VISION_ENCODER, Component, Range, Tensor
from families.parts.picture_axes import HEIGHT, PICTURE, TEXT, WIDTH
from families.parts.qwen_vl import FILES, Sight, text_config
from families.sizes import AreaSize

WEIGHTS = "text_encoder"
"""The checkpoint's sub-folder of both."""
TEXT_ENCODER = "text_encoder"
VISION = "vision"
"""Tokens of a text with its pictures in it, and of these pictures."""
VISION_STATES, STATES = "vision_states", "text_states"
LEAST_TEXT = 2
"""Tokens: a single one is of a size by itself to whoever traces a graph."""


@dataclass(frozen=True)
class Views:
    """How pictures are looked at: each is scaled by `rule`, and then as the processor of that sub-folder does it."""

    sight: Sight
    rule: AreaSize
    processor: str

    @property
    def most_tokens(self) -> int:
        """Of one picture."""
        return max(rows * columns for rows, columns in map(self.sight.grid, self._seen()))

    def pixels(self) -> dict[str, Any]:
        """`ranges` and `shapes` of the vision encoder. Compared are the smallest, one of odd windows and the square."""
        unit, sides = self.sight.unit, [side for size in self._seen() for side in size]
        square = self.sight.of(*self.rule.square)[0]
        odd = min(sides) + unit
        shapes = ((min(sides),) * 2, (odd, 2 * odd + unit), (square, square))
        side = Range(min(sides), square, max(sides), unit)
        return {
            "ranges": {HEIGHT: side, WIDTH: side},
            "shapes": tuple({HEIGHT: height, WIDTH: width} for height, width in shapes),
        }

    def _seen(self) -> Iterator[tuple[int, int]]:
        """Every size that a picture can be seen at, and some more."""
        rule, step = self.rule, self.rule.multiple
        for width in range(rule.min_side, rule.max_side + 1, step):
            ends = rule.area / (width + rule.rounding) - step, rule.area / (width - rule.rounding) + step
            least, most = (min(max(int(end) // step * step, rule.min_side), rule.max_side) for end in ends)
            for height in (rule.min_side, *range(least, most + 1, step)):
                yield self.sight.of(width, height)


def vl_components(
    views: Views, config: Mapping[str, Any], text: Range, pictures: int, precisions: tuple[str, ...]
) -> tuple[Component, Component]:
    """`config`: of the whole model. `text`: tokens of a text, at least LEAST_TEXT, those of up to `pictures` pictures
    among them."""
    width = Sizes.read(config).width
    states = Tensor(VISION_STATES, "FP32", (1, VISION, width))
    vision = Component(
        name=VISION_ENCODER,
        role="encoder",
        weights=WEIGHTS,
        inputs=(Tensor(PIXELS, "FP32", PICTURE),),
        outputs=(states,),
        **views.pixels(),
        precisions=precisions,
        named=r"(model\.)?visual\.",
        beside=tuple(f"{views.processor}/{name}" for name in FILES),
    )
    one = views.sight.grid(views.sight.of(*views.rule.square))
    usual, most = one[0] * one[1], pictures * views.most_tokens
    shapes = ((text.min, 2), (text.min + 35, 7), (text.opt, usual))
    encoder = Component(
        name=TEXT_ENCODER,
        role="encoder",
        weights=WEIGHTS,
        inputs=(
            Tensor("input_ids", "INT64", (1, TEXT)),
            Tensor("position_ids", "INT64", (3, TEXT)),
            Tensor("vision_places", "INT64", (1, TEXT)),
            states,
        ),
        outputs=(Tensor(STATES, "FP32", (1, TEXT, width)),),
        ranges={TEXT: text, VISION: Range(2, usual, most)},
        shapes=tuple({TEXT: tokens, VISION: seen} for tokens, seen in shapes),
        precisions=precisions,
        named=r"model\.(?!visual\.)",
    )
    return vision, encoder


@dataclass(frozen=True)
class Sizes:
    """What tables need of the model's config."""

    vocabulary: int
    width: int
    image_pad: int
    """The id of a picture's tokens."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> "Sizes":
        """Raises LookupError, TypeError or ValueError for another model's."""
        text = text_config(config)
        return cls(int(text["vocab_size"]), int(text["hidden_size"]), int(config.get("image_token_id", 151655)))
