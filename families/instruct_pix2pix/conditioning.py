"""One request -> the tensors of its engines: `input_ids`, `pixels`, and the guidance that the request comes to.

Imported by `preprocess`. Knows the files that the export keeps for it and nothing of Triton or of engines.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from families.edit import Edit
from families.errors import TOO_MANY_IMAGES, InvalidEditError
from families.instruct_pix2pix import tokenizer
from families.picture import DecodingLimits, WorkingSize, decode, scale, to_tensor

NEGATIVE_PROMPT = ""


class Conditioner:
    """Built once from the export's `pipeline` folder; holds the tokenizer and the size rule."""

    def __init__(self, pipeline: Path, limits: DecodingLimits) -> None:
        settings = json.loads((pipeline / "pipeline.json").read_text("utf-8"))
        self._guidance_when_zero = float(settings["guidance_when_zero"])
        self._adapters = tuple(settings["adapters"])
        self._size = WorkingSize(**settings["picture"])
        self._tokenizer = tokenizer.load(pipeline / "tokenizer")
        self._limits = limits

    def __call__(self, edit: Edit) -> dict[str, NDArray[Any]]:
        """Returns the outputs of `preprocess`:

        - `input_ids` int64 (P, tokens): the prompt, and with guidance the empty prompt after it (P = 1 or 2);
        - `pixels` float32 (1, 3, H, W) in [-1, 1], at the working size;
        - `guidance` float32 (2,): text scale, image scale; the text scale is 1 where guidance is off;
        - `adapter` int32 (P, 1): the index of the adapter that `model` names, 0 for none.

        Raises InvalidEditError.
        """
        if len(edit.images) != 1:
            raise InvalidEditError(TOO_MANY_IMAGES, "this model edits exactly one image")
        adapter, guidance = edit.adapter(self._adapters), self._guidance(edit)
        prompts = [edit.prompt] if guidance[0] == 1.0 else [edit.prompt, NEGATIVE_PROMPT]
        picture = scale(decode(edit.images[0], self._limits), self._size)
        return {
            "input_ids": tokenizer.tokenize(self._tokenizer, prompts),
            "pixels": to_tensor(picture),
            "guidance": guidance,
            "adapter": np.full((len(prompts), 1), adapter, np.int32),
        }

    def _guidance(self, edit: Edit) -> NDArray[Any]:
        """0 is the repository's default. As in diffusers, guidance needs text above 1 and image of at least 1."""
        text = edit.guidance_scale or self._guidance_when_zero
        on = text > 1.0 and edit.image_guidance_scale >= 1.0
        return np.array([text, edit.image_guidance_scale] if on else [1.0, 1.0], np.float32)
