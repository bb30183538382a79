"""Qwen's tokenizer: a prompt as a chat's one message, to token ids and a mask."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from families.errors import BadCheckpointError
from families.interface import Array

SENTENCE = "turn the sky red"


def load(folder: Path) -> Any:
    """The tokenizer of a checkpoint's folder, with its chat template."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def tokenize(tokenizer: Any, prompts: list[str], tokens: int) -> dict[str, Array]:
    """`input_ids` and `attention_mask`, int64 (prompts, tokens), each row cut or padded. No thinking is asked for."""
    chats = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        for prompt in prompts
    ]
    made = tokenizer(chats, padding="max_length", truncation=True, max_length=tokens, return_tensors="np")
    return {name: np.asarray(made[name], np.int64) for name in ("input_ids", "attention_mask")}


def require_usable(folder: Path, tokens: int, vocabulary: int) -> None:
    """Raises BadCheckpointError unless a prompt becomes known words, and ids below `vocabulary`."""
    try:
        tokenizer = load(folder)
        made = tokenize(tokenizer, [SENTENCE], tokens)
        read_back = tokenizer.decode(made["input_ids"][0][made["attention_mask"][0] > 0])
    except Exception as error:
        raise BadCheckpointError(f"{folder} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if SENTENCE not in read_back:
        raise BadCheckpointError(f"{folder} does not know the words of {SENTENCE!r}, or its chat template drops them")
    if made["input_ids"].max() >= vocabulary:
        ids = made["input_ids"].max()
        raise BadCheckpointError(f"{folder} gives id {ids}, the text encoder knows {vocabulary} tokens")
