"""One edit -> its text and picture, encoded."""

from pathlib import Path

from families.edit import Edit
from families.interface import Call, Tensors
from families.parts import clip_tokenizer, references
from families.parts.guidance import PictureGuidance
from families.settings import Settings


class Conditioner:
    """Holds the tokenizer."""

    def __init__(self, files: Path, settings: Settings) -> None:
        self._factor = int(settings.own["factor"])
        self._tokenizer = clip_tokenizer.load(files / "tokenizer")

    def __call__(self, edit: Edit, call: Call) -> Tensors:
        """`encoder_hidden_states` (P, tokens, width): the prompt's, with guidance the negative one's after it; and
        `image_latents` (1, C, h, w), not scaled, as this family was trained; with a mask `mask` (1, 1, h, w)."""
        prompts = PictureGuidance.of(edit).sentences(edit)
        text, picture, *mask = call.together(
            ("text_encoder", {"input_ids": clip_tokenizer.tokenize(self._tokenizer, prompts)}),
            references.in_frame(edit),
            *references.mask(edit, self._factor),
        )
        return {**text, **picture, **(mask[0] if mask else {})}
