"""Guidance of Qwen-Image-Edit: on text alone, with every token's prediction kept as long as the prompt's own."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from families.parts.guidance import TextGuidance


@dataclass(frozen=True)
class Guidance(TextGuidance):
    """As the pipelines', whose `true_cfg_scale` it is; they are given a blank where there is no negative prompt."""

    NEGATIVE: ClassVar[str] = " "

    def combine(self, prediction: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, C) -> (1, tokens, C)."""
        if not self.on:
            return prediction
        combined = super().combine(prediction)
        length, own = (torch.linalg.vector_norm(one, dim=-1, keepdim=True) for one in (combined, prediction[:1]))
        rescaled: torch.Tensor = combined * (own / length)
        return rescaled
