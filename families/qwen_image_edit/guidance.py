"""Guidance of Qwen-Image-Edit: on text alone, with every token's prediction kept as long as the prompt's own."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from families.interface import Array
from families.parts.guidance import TextGuidance


@dataclass(frozen=True)
class Guidance(TextGuidance):
    """As the pipelines', whose `true_cfg_scale` it is; they are given a blank where there is no negative prompt."""

    NEGATIVE: ClassVar[str] = " "

    def combine(self, prediction: Array) -> Array:
        """(rows, tokens, C) -> (1, tokens, C)."""
        if not self.on:
            return prediction
        combined = super().combine(prediction)
        length, own = (_lengths(one) for one in (combined, prediction[:1]))
        with np.errstate(all="ignore"):  # as the pipelines, which go on with what is not finite
            rescaled: Array = combined * (own / length)
        return rescaled


def _lengths(tokens: Array) -> Array:
    """(1, tokens, C) -> (1, tokens, 1), as torch rounds them."""
    lengths: Array = torch.linalg.vector_norm(torch.from_numpy(tokens), dim=-1, keepdim=True).numpy()
    return lengths
