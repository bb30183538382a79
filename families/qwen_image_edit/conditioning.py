"""One edit -> its pictures, encoded and looked at, and its text, read with the pictures in it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from families.edit import Edit
from families.interface import Array, Call, Tensors
from families.parts import references, vl_tokenizer
from families.parts.qwen_vl import Sight, lay_out
from families.parts.qwen_vl_components import STATES, TEXT_ENCODER, VISION_STATES
from families.picture import own_size
from families.qwen_image_edit import prompts
from families.qwen_image_edit.guidance import Guidance
from families.qwen_image_edit.table import PROMPT_TOKENS, TEXT_STEP
from families.settings import Settings
from families.sizes import Seen, own_rule


class Conditioner:
    """Holds the tokenizer and the size rules."""

    def __init__(self, files: Path, settings: Settings) -> None:
        own = settings.own
        self._tokenizer = vl_tokenizer.load(files / "tokenizer")
        self._size_rule, self._looked_at = settings.size_rule.encode(), own_rule(own["looked_at"])
        self._factor, self._image_pad = int(own["factor"]), int(own["image_pad"])
        self._several, self._sight = bool(own["several"]), Sight(**own["sight"])

    def __call__(self, edit: Edit, call: Call) -> Tensors:
        """`encoder_hidden_states` (P, T, width): the prompt's, with guidance the negative one's after it, each followed
        by zeros; `text_tokens` (P) int64: how many of each are there; `reference_0` (1, C, h, w), `reference_1` and so
        on; with a mask `kept_latents` and `mask`."""
        sentences = Guidance.of(edit).sentences(edit)
        for name, sentence in zip(("prompt", "negative_prompt"), sentences, strict=False):
            tokens = vl_tokenizer.tokenize(self._tokenizer, sentence)
            vl_tokenizer.require_within(name, sentence, len(tokens), PROMPT_TOKENS)
        rules = [self._view(own_size(image)) for image in edit.images]
        views = [references.view(image, rule.to_json()) for image, rule in zip(edit.images, rules, strict=True)]
        made = call.together(*views, *references.all_of(edit, self._size_rule, self._factor))
        seen = np.concatenate([one[VISION_STATES] for one in made[: len(views)]], axis=1)
        grids = [self._sight.grid(rule.seen) for rule in rules]
        texts = [self._laid_out(sentence, grids) | {VISION_STATES: seen} for sentence in sentences]
        read = call.together(*((TEXT_ENCODER, text) for text in texts))
        states = [one[STATES][:, prompts.DROPPED :] for one in read]
        return {**_padded(states), **references.named(edit, made[len(views) :])}

    def _view(self, own: tuple[int, int]) -> Seen:
        """How a picture of that size is looked at."""
        first = self._looked_at.of(*own)
        return Seen((first,), self._sight.of(*first))

    def _laid_out(self, sentence: str, grids: Sequence[tuple[int, int]]) -> dict[str, Array]:
        text = prompts.text(sentence, len(grids), numbered=self._several)
        return lay_out(vl_tokenizer.tokenize(self._tokenizer, text), self._image_pad, grids)


def _padded(states: Sequence[Array]) -> Tensors:
    """Texts of (1, T, width) as rows of one length, a multiple of TEXT_STEP."""
    counts = [one.shape[1] for one in states]
    length = -(-max(counts) // TEXT_STEP) * TEXT_STEP
    rows = [np.pad(one, ((0, 0), (0, length - one.shape[1]), (0, 0))) for one in states]
    return {"encoder_hidden_states": np.concatenate(rows), "text_tokens": np.array(counts, np.int64)}
