"""T5's tokenizer: prompts to token ids, padded; the padding is attended, so there is no mask."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from families.errors import BadCheckpointError
from families.interface import Array

SENTENCE = "turn the sky red"


def load(folder: Path) -> Any:
    """The tokenizer of a checkpoint's folder."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def tokenize(tokenizer: Any, prompts: list[str], tokens: int) -> Array:
    """`input_ids` int64 (prompts, tokens), each row cut or padded."""
    made = tokenizer(prompts, padding="max_length", truncation=True, max_length=tokens, return_tensors="np")
    return np.asarray(made["input_ids"], np.int64)


def require_usable(folder: Path, tokens: int, vocabulary: int) -> None:
    """Raises BadCheckpointError unless a prompt becomes known words, and ids below `vocabulary`."""
    try:
        tokenizer = load(folder)
        ids = tokenize(tokenizer, [SENTENCE], tokens)
        read_back = tokenizer.decode(ids[0], skip_special_tokens=True)
    except Exception as error:
        raise BadCheckpointError(f"{folder} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if read_back.strip() != SENTENCE:
        raise BadCheckpointError(f"{folder} does not know the words of {SENTENCE!r}: its vocabulary is missing")
    if ids.max() >= vocabulary:
        raise BadCheckpointError(f"{folder} gives id {ids.max()}, the text encoder knows {vocabulary} tokens")
