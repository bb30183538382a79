"""Sizes of pictures and of their latents: ranges of a component's axes, and where it is compared. Imports no torch."""

import math
from dataclasses import dataclass
from typing import Any

from families.interface import PREDICTION, ROWS, Range, Tensor
from families.sizes import WorkingSize

MIN_SIDE = 64
"""Pixels. Below it the lowest resolution of a UNet that halves three times after an eightfold VAE would vanish."""
LONGEST_ASPECT = 4
"""A picture of the whole pixel budget may be this many times as long as it is wide."""
HEIGHT, WIDTH = "height", "width"
LATENT_HEIGHT, LATENT_WIDTH = "latent_height", "latent_width"
TARGET, REFERENCES = "target", "reference"
"""Tokens of the picture that is made, and of those that are given."""
PLACES = ("sample_ids", "reference_ids")
"""Inputs: where the tokens of both stand."""
TEXT = "text"
"""Tokens of text."""
PICTURE = (1, 3, HEIGHT, WIDTH)
"""The shape of `pixels`: one picture a call. It keeps a processor busy by itself, and scratch memory grows by row."""


@dataclass(frozen=True)
class PictureAxes:
    """What follows from a pixel budget where a latent is `factor` x `factor` pixels."""

    max_pixels: int
    factor: int

    @property
    def side(self) -> int:
        """Pixels a side of the square that fills the budget."""
        return self.rule.square[0]

    @property
    def max_side(self) -> int:
        """Pixels of the longest side that any picture has."""
        return math.isqrt(self.max_pixels * LONGEST_ASPECT) // self.factor * self.factor

    @property
    def max_latents(self) -> int:
        """Latents of the largest picture."""
        return self.max_pixels // self.factor**2

    @property
    def rule(self) -> WorkingSize:
        """The size that a picture is edited at."""
        return WorkingSize(self.max_pixels, self.factor, MIN_SIDE, self.max_side)

    def pixels(self) -> dict[str, Any]:
        """`ranges` and `shapes` of a component whose input is one picture."""
        return self._axes(1, 1, HEIGHT, WIDTH, 1)

    def latents(self) -> dict[str, Any]:
        """`ranges` and `shapes` of a component whose input is one picture's latents."""
        return self._axes(1, 1, LATENT_HEIGHT, LATENT_WIDTH, self.factor)

    def rows_of_latents(self, usual: int, most: int) -> dict[str, Any]:
        """`ranges` and `shapes` of a component whose input is rows of latents, of one size in a call."""
        return self._axes(min(usual, most), most, LATENT_HEIGHT, LATENT_WIDTH, self.factor)

    def tokens(self, usual: int, most: int, references: int) -> dict[str, Any]:
        """`ranges` and `shapes` of a component whose input is rows of tokens: of a picture and of references, if any.

        Compared are the most rows of the smallest picture from text alone, two of odd ones, and the largest with one of
        its size.
        """
        least, largest, odd = (MIN_SIDE // self.factor) ** 2, self.max_latents, (MIN_SIDE // self.factor + 1) ** 2
        shapes = ((most, least, 0), (min(2, most), odd, odd + least), (1, largest, largest))
        return {
            "ranges": {
                ROWS: Range(1, min(usual, most), most),
                TARGET: Range(least, largest, largest),
                REFERENCES: Range(0, largest, references * largest),
            },
            "shapes": tuple({ROWS: n, TARGET: target, REFERENCES: given} for n, target, given in shapes),
        }

    def _axes(self, usual: int, most: int, height: str, width: str, unit: int) -> dict[str, Any]:
        """Compared are the most rows of the smallest picture, two of one whose sides halve to odd numbers, and one of
        the longest strip of the whole budget: each bound is met once, and no call is larger than an edit's own."""
        side = Range(MIN_SIDE // unit, self.side // unit, self.max_side // unit, self.factor // unit)
        odd = MIN_SIDE + self.factor
        strip = self.max_pixels // self.max_side // self.factor * self.factor
        shapes = ((most, MIN_SIDE, MIN_SIDE), (min(2, most), odd, 2 * odd - self.factor), (1, strip, self.max_side))
        return {
            "ranges": {ROWS: Range(1, usual, most), height: side, width: side},
            "shapes": tuple({ROWS: n, height: h // unit, width: w // unit} for n, h, w in shapes),
        }


def token_tensors(channels: int, axes: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
    """A denoiser's `sample` and `references` of so many channels, where they stand on so many axes; its prediction."""
    sample, references = (ROWS, TARGET, channels), (ROWS, REFERENCES, channels)
    pictures = Tensor("sample", "FP32", sample), Tensor("references", "FP32", references)
    sizes = (TARGET, REFERENCES)
    places = [Tensor(name, "FP32", (ROWS, tokens, axes)) for name, tokens in zip(PLACES, sizes, strict=True)]
    return pictures, (places[0], places[1]), Tensor(PREDICTION, "FP32", sample)


def text_rows(most: int) -> dict[str, Any]:
    """`ranges` and `shapes` of a component that takes rows of text of one length; a guided edit has two."""
    return {"ranges": {ROWS: Range(1, 2, most)}, "shapes": ({ROWS: 1}, {ROWS: 2}, {ROWS: most})}
