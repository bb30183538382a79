"""Second stage: the text encoder learns to tell the instructions apart, before any picture is seen.

Without this the UNet waits long for embeddings that differ: every token from the end of the sentence on, which is most
of what cross attention sees, learns to say name, colour, shape and place.
"""

from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTokenizer

from demo.edits import COLOURS, FILTERS, KINDS, PLACES, SHAPES, Kind
from demo.text import HIDDEN, LENGTH, build_text_encoder
from demo.training import Run, halved
from demo.wordings import disturbed, sentence, unknown_sentence

BATCH = 48
RATE = 1e-3
SAVE_EVERY = 50
_ANSWERS = {
    "name": ["", *FILTERS, "border", "shape"],
    "colour": ["", *COLOURS],
    "shape": ["", *SHAPES],
    "place": ["", *PLACES],
}


class Reader(nn.Module):
    """The text encoder and, for this stage only, one linear answer for each part of a kind."""

    def __init__(self, text_encoder: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.heads = nn.ModuleDict({part: nn.Linear(HIDDEN, len(answers)) for part, answers in _ANSWERS.items()})

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Logits of every part at every token, (N, LENGTH, answers)."""
        embeddings = self.text_encoder(tokens)[0]
        return {part: head(embeddings) for part, head in self.heads.items()}


def train_text(state: Path, tokenizer: CLIPTokenizer, steps: int) -> nn.Module:
    """Train, or carry on with, the text encoder; answers its averaged weights."""
    torch.manual_seed(2)
    run = Run(state, "text", Reader(build_text_encoder(tokenizer)), RATE, steps)
    run.resume()
    recent: list[float] = []
    for step in track(range(run.step, steps), "text"):
        tokens, labels = draw_sentences(np.random.default_rng([3, step]), tokenizer)
        after_end = (tokens == tokenizer.eos_token_id)[..., None]  # the end token also pads
        with halved():
            logits = run.module(tokens)
        losses = [
            functional.cross_entropy(
                logits[part].float()[after_end[..., 0]], label[:, None].expand(-1, LENGTH)[after_end[..., 0]]
            )
            for part, label in labels.items()
        ]
        run.update(torch.stack(losses).sum())
        at_end = {part: values[:, -1].argmax(dim=1) for part, values in logits.items()}
        recent.append(float(torch.stack([at_end[part] == labels[part] for part in labels]).all(dim=0).float().mean()))
        if run.step % SAVE_EVERY == 0 or run.step == steps:
            run.record(accuracy=float(np.mean(recent)))
            recent.clear()
            run.save()
    encoder: nn.Module = run.average.text_encoder  # type: ignore[assignment]
    return encoder


def draw_sentences(rng: np.random.Generator, tokenizer: CLIPTokenizer) -> tuple[Tensor, dict[str, Tensor]]:
    """Token ids (BATCH, LENGTH) and the index of each part's answer; one sentence in six asks for nothing known."""
    texts, kinds = [], []
    for _ in range(BATCH):
        group = rng.random()
        if group < 1 / 6:
            texts.append(unknown_sentence(rng))
            kinds.append(Kind(""))
            continue
        kind = KINDS[
            rng.integers(16) if group < 0.6 else rng.integers(16, 22) if group < 0.7 else rng.integers(22, 112)
        ]
        texts.append(disturbed(sentence(kind, rng), rng))
        kinds.append(kind)
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids
    labels = {
        part: torch.tensor([answers.index(getattr(kind, part)) for kind in kinds]) for part, answers in _ANSWERS.items()
    }
    return tokens, labels
