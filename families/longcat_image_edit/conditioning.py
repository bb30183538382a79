"""One edit -> its picture, encoded and looked at, and its text, read with the picture in it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from families.edit import Edit
from families.interface import Array, Call, Tensors
from families.longcat_image_edit import prompts
from families.longcat_image_edit.table import PROMPT_TOKENS, half
from families.parts import references, vl_tokenizer
from families.parts.guidance import TextGuidance
from families.parts.qwen_vl import PADDING, Sight, lay_out
from families.parts.qwen_vl_components import STATES, TEXT_ENCODER
from families.picture import own_size
from families.settings import Settings
from families.sizes import Seen, own_rule


class Conditioner:
    """Holds the tokenizer and the size rule."""

    def __init__(self, files: Path, settings: Settings) -> None:
        own = settings.own
        self._tokenizer = vl_tokenizer.load(files / "tokenizer")
        self._size_rule, self._factor = settings.size_rule, int(own["factor"])
        self._image_pad, self._sight = int(own["image_pad"]), Sight(**own["sight"])
        self._begin = vl_tokenizer.tokenize(self._tokenizer, prompts.BEGIN)
        self._picture = vl_tokenizer.tokenize(self._tokenizer, prompts.PICTURE)

    def __call__(self, edit: Edit, call: Call) -> Tensors:
        """`encoder_hidden_states` (P, T, width): the prompt's, with guidance the negative one's after it, the picture's
        tokens before each; `reference_0` (1, C, h, w); with a mask `kept_latents` and `mask`."""
        sentences = TextGuidance.of(edit).sentences(edit)
        read = [prompts.tokenize(self._tokenizer, sentence) for sentence in sentences]
        for name, sentence, ids in zip(("prompt", "negative_prompt"), sentences, read, strict=False):
            vl_tokenizer.require_within(name, sentence, len(ids), PROMPT_TOKENS)
        rule = self._view(own_size(edit.images[0]))
        asked = references.all_of(edit, self._size_rule.encode(), self._factor)
        seen, *made = call.together(references.view(edit.images[0], rule.to_json()), *asked)
        grid = self._sight.grid(rule.seen)
        texts = call.together(*((TEXT_ENCODER, {**self._laid_out(ids, grid), **seen}) for ids in read))
        states = [self._whole(text[STATES], len(ids)) for text, ids in zip(texts, read, strict=True)]
        return {"encoder_hidden_states": np.concatenate(states), **references.named(edit, made)}

    def _view(self, own: tuple[int, int]) -> Seen:
        """How a picture of that size is looked at: at half the size that it is edited at."""
        whole = own_rule(self._size_rule).of(*own)
        return Seen((whole, half(whole)), self._sight.of(*half(whole)))

    def _laid_out(self, ids: Sequence[int], grid: tuple[int, int]) -> dict[str, Array]:
        """The text and one token of padding, which stands for all: each is at place 0, and sees the text before it and
        no padding, so that all are the same. What follows in diffusers is seen by none of them."""
        laid = lay_out([*self._begin, *self._picture, *ids, self._tokenizer.pad_token_id], self._image_pad, [grid])
        laid["position_ids"][:, -1] = 0
        laid["vision_places"][:, -1] = PADDING
        at = self._padding(laid["input_ids"], len(ids))
        return {name: np.insert(array[:, :-1], at, array[:, -1], axis=1) for name, array in laid.items()}

    def _whole(self, states: Array, count: int) -> Array:
        """Of a prompt of `count` tokens, with all of its padding, and without what comes before the picture."""
        times = np.ones(states.shape[1], np.int64)
        times[self._padding(states, count)] = PROMPT_TOKENS - count
        return states.repeat(times, axis=1)[:, len(self._begin) :]

    def _padding(self, text: Array, count: int) -> int:
        """Where the padding stands in a text (1, T, ...) that ends with a prompt of `count` tokens, or with it."""
        return text.shape[1] - 1 - (count if self._tokenizer.padding_side == "left" else 0)
