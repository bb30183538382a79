"""What Qwen2.5-VL is told of an edit, and how its prompt is read. Imports no torch."""

import re
from collections.abc import Iterator
from typing import Any

from families.parts import vl_tokenizer

BEGIN = (
    "<|im_start|>system\nAs an image editing expert, first analyze the content and attributes of the input image(s). "
    "Then, based on the user's editing instructions, clearly and precisely determine how to modify the given image(s), "
    "ensuring that only the specified parts are altered and all other aspects remain consistent with the original(s)."
    "<|im_end|>\n<|im_start|>user\n"
)
"""The transformer is not given its tokens, but all after it."""
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
AROUND_PICTURE = 2
"""Tokens of PICTURE, beside those of the picture itself."""
APOSTROPHE = re.compile("(?<=[a-zA-Z])'(?=[a-zA-Z])")
QUOTED = re.compile(r"""'[^']*'|"[^"]*"|\u2018[^\u2018\u2019]*\u2019|\u201c[^\u201c\u201d]*\u201d""")


def tokenize(tokenizer: Any, prompt: str) -> list[int]:
    """The ids of a prompt: what is quoted, to be written into the picture, is read letter by letter."""
    pieces = (piece for part, quoted in _parts(prompt) for piece in (part if quoted else [part]))
    return [token for piece in pieces for token in vl_tokenizer.tokenize(tokenizer, piece)]


def _parts(prompt: str) -> Iterator[tuple[str, bool]]:
    """The prompt in parts, and whether each is quoted, its marks included. An apostrophe within a word is no mark."""
    begin = 0
    for found in QUOTED.finditer(APOSTROPHE.sub("_", prompt)):
        yield prompt[begin : found.start()], False
        yield prompt[found.start() : found.end()], True
        begin = found.end()
    yield prompt[begin:], False
