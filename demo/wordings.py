"""Sentences for each kind of edit, and sentences that ask for nothing the model knows.

The texts are in `wordings.json`. Training draws from `WORDINGS` and varies them; `UNSEEN` is never trained on and
measures how far the text encoder generalises. Knows nothing of pictures.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from demo.edits import Kind

_TEXTS: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
WORDINGS: dict[str, list[str]] = _TEXTS["wordings"]
UNSEEN: dict[str, list[str]] = _TEXTS["unseen"]
PLACE_WORDS: dict[str, list[str]] = _TEXTS["places"]
_BEFORE: list[str] = _TEXTS["before"]
_AFTER: list[str] = _TEXTS["after"]
_UNKNOWN: list[str] = _TEXTS["unknown"]
_THINGS: list[str] = _TEXTS["things"]


def sentence(kind: Kind, rng: np.random.Generator) -> str:
    """A training sentence for `kind`: one of its wordings, sometimes with courtesies around it or capitals."""
    core = _filled(WORDINGS, kind, rng)
    text = _BEFORE[rng.integers(len(_BEFORE))] + core + _AFTER[rng.integers(len(_AFTER))]
    return text.capitalize() if rng.random() < 0.2 else text


def unseen_sentence(kind: Kind, rng: np.random.Generator) -> str:
    """A sentence for `kind` that training never drew."""
    return _filled(UNSEEN, kind, rng)


def disturbed(text: str, rng: np.random.Generator) -> str:
    """The sentence, half the time with meaningless words put in, so that unknown words do not mislead."""
    words = text.split(" ")
    for _ in range(rng.integers(0, 3) if rng.random() < 0.75 else 0):
        stray = "".join(chr(letter) for letter in rng.integers(ord("a"), ord("z") + 1, rng.integers(2, 9)))
        words.insert(int(rng.integers(len(words) + 1)), stray)
    return " ".join(words)


def plain_sentence(kind: Kind) -> str:
    """The first wording of `kind`."""
    place = PLACE_WORDS[kind.place][0] if kind.place else ""
    return WORDINGS[kind.name][0].format(colour=kind.colour, shape=kind.shape, place=place)


def unknown_sentence(rng: np.random.Generator) -> str:
    """A sentence that no kind of edit answers: unrelated requests, stray words, letters, nothing."""
    if rng.random() < 0.15:
        letters = rng.integers(33, 123, rng.integers(0, 20))
        return "".join(chr(letter) if letter % 7 else " " for letter in letters)
    words = [_THINGS[rng.integers(len(_THINGS))] for _ in range(2)]
    return _UNKNOWN[rng.integers(len(_UNKNOWN))].format(*words)


def vocabulary() -> list[str]:
    """Every training sentence's parts, for the tokenizer to learn its merges from."""
    parts = [text for texts in (*WORDINGS.values(), *PLACE_WORDS.values()) for text in texts]
    parts += [*_BEFORE, *_AFTER, *_UNKNOWN, *_THINGS, "red green blue yellow white black", "circle square triangle"]
    return [part.replace("{colour}", "").replace("{shape}", "").replace("{place}", "") for part in parts]


def _filled(wordings: dict[str, list[str]], kind: Kind, rng: np.random.Generator) -> str:
    options = wordings[kind.name]
    text = options[rng.integers(len(options))]
    place = PLACE_WORDS[kind.place] if kind.place else [""]
    return text.format(colour=kind.colour, shape=kind.shape, place=place[rng.integers(len(place))])
