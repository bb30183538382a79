"""One edit -> its text and its pictures, encoded; each picture by a call of its own, at a size of its own."""

from pathlib import Path

from families.edit import Edit
from families.flux2_klein.table import TOKENS
from families.interface import Call, Tensors
from families.parts import chat_tokenizer, references
from families.parts.guidance import TextGuidance
from families.settings import Settings

NEGATIVE_PROMPT = ""


class Conditioner:
    """Holds the tokenizer and the size rule."""

    def __init__(self, files: Path, settings: Settings) -> None:
        self._tokenizer = chat_tokenizer.load(files / "tokenizer")
        self._size_rule = settings.size_rule.encode()
        self._distilled = bool(settings.own["distilled"])

    def __call__(self, edit: Edit, call: Call) -> Tensors:
        """`encoder_hidden_states` (P, 512, width): the prompt's, with guidance the empty prompt's after it; and
        `reference_0` (1, C, h, w), `reference_1` and so on: the pictures' latents in their order, if there are any."""
        guided = TextGuidance.of(edit, known=not self._distilled).on
        prompts = [edit.prompt, NEGATIVE_PROMPT] if guided else [edit.prompt]
        text, *encoded = call.together(
            ("text_encoder", chat_tokenizer.tokenize(self._tokenizer, prompts, TOKENS)),
            *references.each(edit, self._size_rule),
        )
        pictures = {f"reference_{place}": given["image_latents"] for place, given in enumerate(encoded)}
        return {**text, **pictures}
