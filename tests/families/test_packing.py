"""Latents as tokens: any number of pictures, and none."""

import numpy as np

from families.parts.packing import all_positions, pack, pack_all, positions, unpack

ONE, OTHER = (np.arange(2 * h * w, dtype=np.float32).reshape(1, 2, h, w) for h, w in ((2, 3), (3, 1)))


def test_pictures_come_one_after_the_other() -> None:
    tokens = pack_all([ONE, OTHER], 2)
    assert tokens.shape == (1, 9, 2)
    assert (unpack(tokens[:, :6], 2, 3) == ONE).all()
    assert (tokens[:, 6:] == pack(OTHER)).all()
    places = all_positions([ONE, OTHER], [10, 20])
    assert (places == np.concatenate([positions(2, 3, 10), positions(3, 1, 20)], axis=1)).all()


def test_no_pictures_are_no_tokens() -> None:
    tokens, places = pack_all([], 16), all_positions([], [], 3)
    assert (tokens.shape, tokens.dtype) == ((1, 0, 16), np.float32)
    assert (places.shape, places.dtype) == ((1, 0, 3), np.float32)
