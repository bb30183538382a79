"""One edit -> its text and picture, encoded."""

from pathlib import Path

from families.edit import Edit
from families.flux_kontext.table import TOKENS
from families.interface import Call, Tensors
from families.parts import clip_tokenizer, references, t5_tokenizer
from families.settings import Settings


class Conditioner:
    """Holds both tokenizers and the size rule."""

    def __init__(self, files: Path, settings: Settings) -> None:
        self._clip = clip_tokenizer.load(files / "tokenizer")
        self._t5 = t5_tokenizer.load(files / "tokenizer_2")
        self._factor = int(settings.own["factor"])
        self._size_rule = settings.size_rule.encode()

    def __call__(self, edit: Edit, call: Call) -> Tensors:
        """`pooled_projections` (1, width), `encoder_hidden_states` (1, 512, width); where there is a picture also
        `reference_0` (1, C, h, w), with a mask `kept_latents` and `mask`."""
        pooled, states, *pictures = call.together(
            ("text_encoder", {"input_ids": clip_tokenizer.tokenize(self._clip, [edit.prompt])}),
            ("text_encoder_2", {"input_ids": t5_tokenizer.tokenize(self._t5, [edit.prompt], TOKENS)}),
            *references.all_of(edit, self._size_rule, self._factor),
        )
        return {**pooled, **states, **references.named(edit, pictures)}
