"""Qwen2.5-VL's tokenizer: a text with pictures in it, to token ids."""

from pathlib import Path
from typing import Any

from families.errors import PROMPT_INVALID, BadCheckpointError, InvalidEditError
from families.parts.qwen_vl import IMAGE_PAD

SENTENCE = "turn the sky red"


def load(folder: Path) -> Any:
    """The tokenizer of a checkpoint's folder."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds, and not for every reader of a table

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def tokenize(tokenizer: Any, text: str) -> list[int]:
    """The ids of a whole text, in which a picture is one token."""
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def require_within(name: str, prompt: str, count: int, most: int) -> None:
    """Raises InvalidEditError, naming the bound, for a prompt that is too long, or that has a picture's own word in it.

    `name`: of the field that it came in. `count`: its tokens.
    """
    if IMAGE_PAD in prompt:
        raise InvalidEditError(PROMPT_INVALID, f"{name}: leave {IMAGE_PAD} out, which stands for a picture")
    if count > most:
        raise InvalidEditError(PROMPT_INVALID, f"{name}: has {count} tokens, at most {most} are read")


def require_usable(folder: Path, vocabulary: int, image_pad: int) -> None:
    """Raises BadCheckpointError unless a prompt becomes known words, ids below `vocabulary`, and a picture its own."""
    try:
        tokenizer = load(folder)
        ids = tokenize(tokenizer, f"{SENTENCE}{IMAGE_PAD}")
        read_back = tokenizer.decode(ids)
    except Exception as error:
        raise BadCheckpointError(f"{folder} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if SENTENCE not in read_back:
        raise BadCheckpointError(f"{folder} does not know the words of {SENTENCE!r}")
    if ids.count(image_pad) != 1:
        raise BadCheckpointError(f"{folder} does not read {IMAGE_PAD} as token {image_pad}, the text encoder's")
    if max(ids) >= vocabulary:
        raise BadCheckpointError(f"{folder} gives id {max(ids)}, the text encoder knows {vocabulary} tokens")
