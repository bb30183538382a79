"""One edit -> its text and picture, encoded."""

from pathlib import Path

from families.edit import Edit
from families.interface import Call, Tensors
from families.parts import clip_tokenizer, references
from families.parts.guidance import PictureGuidance
from families.settings import Settings

NEGATIVE_PROMPT = ""


class Conditioner:
    """Holds the tokenizer."""

    def __init__(self, files: Path, _settings: Settings) -> None:
        self._tokenizer = clip_tokenizer.load(files / "tokenizer")

    def __call__(self, edit: Edit, call: Call) -> Tensors:
        """`encoder_hidden_states` (P, tokens, width): the prompt's, with guidance the empty prompt's after it; and
        `image_latents` (1, C, h, w), not scaled, as this family was trained."""
        prompts = [edit.prompt, NEGATIVE_PROMPT] if PictureGuidance.of(edit).on else [edit.prompt]
        text, picture = call.together(
            ("text_encoder", {"input_ids": clip_tokenizer.tokenize(self._tokenizer, prompts)}),
            references.in_frame(edit),
        )
        return {**text, **picture}
