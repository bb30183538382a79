"""Training batches: pictures, sentences as token ids, edited pictures. The same step gives the same batch."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from demo.data import Crops, as_tensor
from demo.edits import FILTERS, KINDS, Kind, Picture, true_edit
from demo.wordings import disturbed, sentence, unknown_sentence

Batch = tuple[Tensor, Tensor, Tensor]
"""Pictures (N, 3, H, W) in [-1, 1], token ids (N, 77), edited pictures like the pictures."""

UNKNOWN_SHARE = 0.1
_SHARES = {"border": 0.06, "shape": 0.45}
_HARD = {"posterised": 5.0, "inverted": 2.0, "pencil sketch": 2.0, "pixelated": 3.0}
"""Learnt slowly, so drawn so many times as often as the other filters."""
_EARLY, _LATE = 8 * 128 * 128, 10 * 128 * 128
"""Pixels in a batch, whatever the size of its pictures."""


class Pairs:
    """Batch number `step` of `steps`; early ones are mostly small pictures, later ones mostly 256 x 256."""

    def __init__(self, photos: Path, tokenizer: CLIPTokenizer, steps: int) -> None:
        self.crops, self.tokenizer, self.steps = Crops(photos), tokenizer, steps
        self.chances = _chances()

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([2, step])
        late = step > 0.65 * self.steps
        height, width = _size(rng, late)
        count = max(2, (_LATE if late else _EARLY) // (height * width))
        pictures = [self.crops.draw(rng, height, width) for _ in range(count)]
        asked = [self.ask(rng, picture) for picture in pictures]
        tokens = self.tokenizer(
            [text for text, _ in asked], padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        )
        return as_tensor(pictures), tokens.input_ids, as_tensor([edited for _, edited in asked])

    def ask(self, rng: np.random.Generator, picture: Picture) -> tuple[str, Picture]:
        """A sentence, and the picture edited accordingly."""
        if rng.random() < UNKNOWN_SHARE:
            return unknown_sentence(rng), picture
        kind = KINDS[rng.choice(len(KINDS), p=self.chances)]
        return disturbed(sentence(kind, rng), rng), true_edit(kind, picture)


def _chances() -> Tensor:
    """How often each of KINDS is drawn."""
    groups = {name: sum(kind.name == name for kind in KINDS) for name in _SHARES}
    filters = 1 - sum(_SHARES.values())
    weights = {name: _HARD.get(name, 1.0) for name in FILTERS}

    def chance(kind: Kind) -> float:
        if kind.name in _SHARES:
            return _SHARES[kind.name] / groups[kind.name]
        return filters * weights[kind.name] / sum(weights.values())

    return torch.tensor([chance(kind) for kind in KINDS], dtype=torch.float64)


def _size(rng: np.random.Generator, late: bool) -> tuple[int, int]:
    """Height and width of one batch's pictures, multiples of 8 from 128 to 384."""
    draw = rng.random()
    if draw < (0.45 if late else 0.15):
        return 256, 256
    if draw < (0.7 if late else 0.8):
        return 128, 128
    if draw < 0.95:
        return int(8 * rng.integers(16, 33)), int(8 * rng.integers(16, 33))
    return int(8 * rng.integers(28, 49)), int(8 * rng.integers(28, 49))
