"""Wordings: all kinds have some, the unseen ones are unseen, and the tokenizer takes any text."""

import json
from pathlib import Path

import numpy as np
import pytest

from demo.checkpoint_writer import CHECKPOINT
from demo.edits import KINDS
from demo.text import LENGTH, build_tokenizer
from demo.wordings import UNSEEN, WORDINGS, plain_sentence, sentence, unknown_sentence, unseen_sentence, vocabulary


def test_every_kind_has_several_wordings() -> None:
    names = {kind.name for kind in KINDS}
    assert set(WORDINGS) == set(UNSEEN) == names
    assert all(len(texts) >= 8 for texts in WORDINGS.values())


def test_unseen_wordings_are_not_trained_on() -> None:
    for name, texts in UNSEEN.items():
        assert not set(texts) & set(WORDINGS[name])


def test_sentences_say_colour_shape_and_place() -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        for text in (sentence(kind, rng), unseen_sentence(kind, rng), plain_sentence(kind)):
            assert kind.colour in text.lower()
            assert kind.shape in text.lower()
            assert "{" not in text


def test_same_seed_same_sentence() -> None:
    first, second = (np.random.default_rng(3) for _ in range(2))
    assert [unknown_sentence(first) for _ in range(20)] == [unknown_sentence(second) for _ in range(20)]


@pytest.mark.parametrize("text", ["make it sepia", "zażółć gęślą", "日本語 🎨 ok", "snake_case; x<y", "UPPER 123"])
def test_tokenizer_round_trip(text: str, tmp_path: Path) -> None:
    tokenizer = build_tokenizer(vocabulary(), tmp_path)
    tokens = tokenizer(text, padding="max_length", truncation=True).input_ids
    assert len(tokens) == LENGTH
    decoded = tokenizer.decode(tokens, skip_special_tokens=True)
    assert decoded.replace(" ", "") == text.lower().replace(" ", "")


def test_known_words_are_one_token(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(vocabulary(), tmp_path)
    assert len(tokenizer("turn the picture into a pencil sketch").input_ids) == 7 + 2


def test_a_tokenizer_is_learnt_once(tmp_path: Path) -> None:
    learnt = build_tokenizer(vocabulary(), tmp_path).get_vocab()
    assert build_tokenizer(["other words"], tmp_path).get_vocab() == learnt


def test_older_readers_get_the_same_vocabulary() -> None:
    folder = CHECKPOINT / "tokenizer"
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    merges = [line.split(" ") for line in (folder / "merges.txt").read_text().splitlines()[1:]]
    assert json.loads((folder / "vocab.json").read_text()) == model["vocab"]
    assert merges == [list(merge) for merge in model["merges"]]
