"""One edit -> its text and picture, encoded."""

from pathlib import Path

import numpy as np

from families.edit import Edit
from families.interface import REFERENCE, Call, Tensors
from families.parts import clip_tokenizer
from families.parts.guidance import PictureGuidance
from families.settings import Settings

NEGATIVE_PROMPT = ""


class Conditioner:
    """Holds the tokenizer and the size rule."""

    def __init__(self, files: Path, settings: Settings) -> None:
        self._tokenizer = clip_tokenizer.load(files / "tokenizer")
        self._size_rule = np.array([settings.own["size_rule"].encode()], np.object_)

    def __call__(self, edit: Edit, call: Call) -> Tensors:
        """`encoder_hidden_states` (P, tokens, width): the prompt's, with guidance the empty prompt's after it; and
        `image_latents` (1, C, h, w), not scaled, as this family was trained."""
        prompts = [edit.prompt, NEGATIVE_PROMPT] if PictureGuidance.of(edit).on else [edit.prompt]
        text, picture = call.together(
            ("text_encoder", {"input_ids": clip_tokenizer.tokenize(self._tokenizer, prompts)}),
            (REFERENCE, {"image": np.array(edit.images, np.object_), "size_rule": self._size_rule}),
        )
        return {**text, **picture}
