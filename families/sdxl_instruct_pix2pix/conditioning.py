"""One edit -> its text and picture, encoded."""

from pathlib import Path

import numpy as np

from families.edit import Edit
from families.interface import Call, Tensors
from families.parts import clip_tokenizer, references
from families.parts.guidance import PictureGuidance
from families.settings import Settings


class Conditioner:
    """Holds both tokenizers."""

    def __init__(self, files: Path, settings: Settings) -> None:
        self._tokenizers = [clip_tokenizer.load(files / name) for name in ("tokenizer", "tokenizer_2")]
        self._factor = int(settings.own["factor"])
        self._zero_negative = bool(settings.own["zero_negative"])

    def __call__(self, edit: Edit, call: Call) -> Tensors:
        """`encoder_hidden_states` (P, tokens, widths) and `text_embeds` (P, pooled): the prompt's, with guidance the
        negative one's after it, zeros where there is none and the checkpoint wants that; `image_latents` (1, C, h, w),
        not scaled; with a mask `mask` (1, 1, h, w)."""
        prompts = PictureGuidance.of(edit).sentences(edit)
        zero = len(prompts) > 1 and self._zero_negative and not edit.negative_prompt
        prompts = prompts[:1] if zero else prompts
        ids = [clip_tokenizer.tokenize(tokenizer, prompts) for tokenizer in self._tokenizers]
        one, two, picture, *mask = call.together(
            ("text_encoder", {"input_ids": ids[0]}),
            ("text_encoder_2", {"input_ids": ids[1]}),
            references.in_frame(edit),
            *references.mask(edit, self._factor),
        )
        states, pooled = np.concatenate([one["hidden_states_1"], two["hidden_states_2"]], axis=2), two["text_embeds"]
        if zero:
            states, pooled = (np.concatenate([given, np.zeros_like(given)]) for given in (states, pooled))
        return {"encoder_hidden_states": states, "text_embeds": pooled, **picture, **(mask[0] if mask else {})}
