"""One edit -> its text and its pictures, encoded; each picture by a call of its own, at a size of its own."""

from pathlib import Path

from families.edit import Edit
from families.flux2_klein.table import TOKENS
from families.interface import Call, Tensors
from families.parts import chat_tokenizer, references
from families.parts.guidance import TextGuidance
from families.settings import Settings


class Conditioner:
    """Holds the tokenizer and the size rule."""

    def __init__(self, files: Path, settings: Settings) -> None:
        self._tokenizer = chat_tokenizer.load(files / "tokenizer")
        self._size_rule = settings.size_rule.encode()
        self._factor = int(settings.own["factor"])
        self._distilled = bool(settings.own["distilled"])

    def __call__(self, edit: Edit, call: Call) -> Tensors:
        """`encoder_hidden_states` (P, 512, width): the prompt's, with guidance the negative one's after it; and
        `reference_0` (1, C, h, w), `reference_1` and so on: the pictures' latents in their order, if there are any;
        with a mask `kept_latents` and `mask`."""
        prompts = TextGuidance.of(edit, known=not self._distilled).sentences(edit)
        text, *pictures = call.together(
            ("text_encoder", chat_tokenizer.tokenize(self._tokenizer, prompts, TOKENS)),
            *references.all_of(edit, self._size_rule, self._factor),
        )
        return {**text, **references.named(edit, pictures)}
