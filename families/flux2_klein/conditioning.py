"""One edit -> its text and its pictures, encoded; each picture by a call of its own, at a size of its own."""

from pathlib import Path

import numpy as np

from families.edit import Edit
from families.flux2_klein.table import TOKENS
from families.interface import REFERENCE, Call, Tensors
from families.parts import chat_tokenizer
from families.parts.guidance import TextGuidance
from families.settings import Settings

NEGATIVE_PROMPT = ""


class Conditioner:
    """Holds the tokenizer and the size rule."""

    def __init__(self, files: Path, settings: Settings) -> None:
        self._tokenizer = chat_tokenizer.load(files / "tokenizer")
        self._size_rule = np.array([settings.own["size_rule"].encode()], np.object_)
        self._distilled = bool(settings.own["distilled"])

    def __call__(self, edit: Edit, call: Call) -> Tensors:
        """`encoder_hidden_states` (P, 512, width): the prompt's, with guidance the empty prompt's after it; and
        `reference_0` (1, C, h, w), `reference_1` and so on: the pictures' latents in their order, if there are any."""
        guided = TextGuidance.of(edit, known=not self._distilled).on
        prompts = [edit.prompt, NEGATIVE_PROMPT] if guided else [edit.prompt]
        pictures = [
            (REFERENCE, {"image": np.array([image], np.object_), "size_rule": self._size_rule}) for image in edit.images
        ]
        text, *encoded = call.together(
            ("text_encoder", chat_tokenizer.tokenize(self._tokenizer, prompts, TOKENS)), *pictures
        )
        references = {f"reference_{place}": given["image_latents"] for place, given in enumerate(encoded)}
        return {**text, **references}
