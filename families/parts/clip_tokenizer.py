"""CLIP's tokenizer: prompts to token ids, and the proof that a checkpoint's can. Imports no torch of its own."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import CLIPTokenizer

from families.errors import BadCheckpointError

SENTENCE = "turn the sky red"


def load(folder: Path) -> Any:
    """The tokenizer of a checkpoint's folder; it may be one that knows no words, see `require_usable`."""
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def tokenize(tokenizer: Any, prompts: list[str]) -> NDArray[Any]:
    """`input_ids` int64 (prompts, tokens), each row cut or padded to the tokenizer's own length."""
    tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="np")
    return np.asarray(tokens["input_ids"], np.int64)


def require_usable(folder: Path, tokens: int, vocabulary: int) -> None:
    """Raises BadCheckpointError unless prompts become rows of `tokens` ids below `vocabulary`, made of known words.

    transformers makes a tokenizer of an empty folder too: one to which every letter is unknown.
    """
    try:
        tokenizer = load(folder)
        ids = tokenize(tokenizer, [SENTENCE])
        words = tokenizer(SENTENCE, add_special_tokens=False)["input_ids"]
        read_back = tokenizer.decode(words)
    except Exception as error:
        raise BadCheckpointError(f"{folder} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if "".join(read_back.split()) != SENTENCE.replace(" ", ""):
        raise BadCheckpointError(f"{folder} does not know the words of {SENTENCE!r}: its vocabulary is missing")
    if len(words) >= len(SENTENCE.replace(" ", "")):
        raise BadCheckpointError(f"{folder} reads {SENTENCE!r} letter by letter: its merges are missing")
    if ids.shape[1] != tokens:
        raise BadCheckpointError(f"{folder} gives {ids.shape[1]} tokens, the text encoder takes {tokens}")
    if ids.max() >= vocabulary:
        raise BadCheckpointError(f"{folder} gives id {ids.max()}, the text encoder knows {vocabulary} tokens")
