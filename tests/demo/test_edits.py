"""The true edits: of the right size and range, deterministic, well apart."""

import numpy as np
import pytest

from demo.edits import BORDER, COLOURS, KINDS, Kind, Picture, blur, true_edit
from demo.measures import confusion, measure, psnr, table


@pytest.fixture(scope="module")
def picture() -> Picture:
    rng = np.random.default_rng(0)
    noise = rng.random((120, 152, 3)).astype(np.float32)
    return np.clip(blur(noise, 3.0) * 4 - 1.5, 0, 1)


def test_there_are_all_kinds() -> None:
    assert len(KINDS) == 16 + 6 + 6 * 3 * 5
    assert len({str(kind) for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS[:24] + KINDS[-3:], ids=str)
def test_edit_keeps_size_and_range(kind: Kind, picture: Picture) -> None:
    before = picture.copy()
    edited = true_edit(kind, picture)
    assert edited.shape == picture.shape
    assert edited.dtype == np.float32
    assert edited.min() >= 0
    assert edited.max() <= 1
    assert np.array_equal(picture, before)
    assert psnr(edited, picture) < 30


@pytest.mark.slow
def test_every_true_edit_is_its_own_nearest(picture: Picture) -> None:
    outcomes = measure(picture, KINDS, [true_edit(kind, picture) for kind in KINDS])
    assert all(outcome.right for outcome in outcomes)
    assert "| all | 112 |" in table(outcomes)
    assert confusion(outcomes).splitlines()[-1].split()[-3:] == ["90", ".", "."]


def test_inverting_twice_changes_nothing(picture: Picture) -> None:
    inverted = Kind("inverted")
    np.testing.assert_allclose(true_edit(inverted, true_edit(inverted, picture)), picture, atol=1e-6)


def test_border_and_shape_have_their_colour(picture: Picture) -> None:
    framed = true_edit(Kind("border", "green"), picture)
    np.testing.assert_allclose(framed[BORDER - 1, 70], COLOURS["green"], atol=1e-6)
    np.testing.assert_allclose(framed[BORDER, BORDER], picture[BORDER, BORDER])
    circle = true_edit(Kind("shape", "red", "circle", "top left"), picture)
    np.testing.assert_allclose(circle[30, 38], COLOURS["red"], atol=1e-6)
    np.testing.assert_allclose(circle[90, 114], picture[90, 114])


def test_black_and_white_has_no_colour(picture: Picture) -> None:
    edited = true_edit(Kind("black and white"), picture)
    assert np.ptp(edited, axis=2).max() < 1e-6
