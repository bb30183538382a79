"""Latents as tokens: any number of pictures, and none."""

from pathlib import Path

import numpy as np
import torch

from families.parts import flow_denoising
from families.parts.guidance import TextGuidance
from families.parts.packing import all_positions, pack, pack_all, positions, unpack
from tests.families.test_schedules import schedules

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


def test_what_has_a_row_for_each_of_a_call_is_not_copied(tmp_path: Path) -> None:
    """klein's text alone is 15.7 MB a row."""
    text = np.ones((1, 3, 8), np.float32)
    for guidance in (TextGuidance(1.0), TextGuidance(3.0)):
        schedule = schedules(tmp_path, "FlowMatchEulerDiscreteScheduler")(2, torch.Generator())
        plan = flow_denoising.plan(ONE, [OTHER], {"text": text}, guidance, schedule, text=3)
        assert np.array_equal(plan.constant["text"], text.repeat(guidance.rows, axis=0))
        assert np.shares_memory(plan.constant["text"], text) == (guidance.rows == 1)
