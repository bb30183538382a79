"""Large rows stand in memory that the denoiser's side reads in place: both sides, without Triton between them."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel import Message
from families.interface import Tensors
from rows import JoinedRows, Part
from shared_rows import SharedRows, arrange
from tests.edit.sharing import SAMPLE, TEXT, Side, check, part, predict, shared


def test_all_inputs_stand_in_memory() -> None:
    rows, side = shared()
    for step in range(3):
        check(rows, [part(1, step=step), part(2, rows=2, step=step + 4)])
        assert side.inputs.keys() == {"text", "sample", "timestep"}
        assert all(array.flags.writeable for array in side.inputs.values()), "OpenVINO takes no other"


def test_a_tensor_of_no_size_is_one_of_these() -> None:
    rows, side = shared()
    one = part(1)
    one.constant["references"] = np.empty((1, 0, 32), np.float32)
    check(rows, [one])
    assert side.inputs["references"].shape == (1, 0, 32)


def test_rows_that_an_edit_has_again_are_written_where_others_stood_on_them() -> None:
    rows, side = shared()
    check(rows, [part(1, 3), part(2, 3)])
    check(rows, [part(1, 1, step=1), part(2, 3, step=1)])
    check(rows, [part(1, 3, step=2), part(2, 3, step=2)])
    check(rows, [part(1, 1, step=3)])
    before = side.inputs["text"]
    check(rows, [part(1, 3, step=4)])
    check(rows, [part(1, 3, step=5)])
    assert np.array_equal(side.inputs["text"][:1], before)


def test_rows_that_nobody_stood_on_are_not_written_again() -> None:
    rows, side = shared()
    seen = []
    for step in range(6):
        check(rows, [part(1, 1 if step % 2 else 3, step=step)])
        seen.append(side.whole["tensors"]["text"][-1])
    assert len(set(seen)) == 1, "the text's version"


def test_an_edit_that_could_not_be_written_is_written_when_it_comes_again() -> None:
    rows, _ = shared()
    wrong = part(2)
    wrong.constant["text"] = np.zeros((2, *TEXT), np.float32)
    for _ in range(2):
        with pytest.raises(ValueError, match="broadcast"):
            rows([part(1), wrong])
    check(rows, [part(1), part(2)])


def test_rows_that_another_edit_was_half_written_on_are_written_again() -> None:
    rows, _ = shared()
    parts = [part(edit) for edit in (1, 2, 3)]
    for each, count in zip(parts, (1, 1, 2), strict=True):
        each.constant["words"] = np.ones((count, 2), np.float32)
    check(rows, parts[:2])
    with pytest.raises(ValueError, match="broadcast"):
        rows([parts[0], parts[2]])
    check(rows, parts[:2])


def test_an_answer_of_other_rows_is_an_error() -> None:
    side = Side()

    def short(message: Message, some: Tensors) -> tuple[str, tuple[int, ...]]:
        dtype, shape = side(message, some)
        return dtype, (shape[0] - 1, *shape[1:])

    with pytest.raises(ValueError, match="the denoiser answered 1 rows to 2"):
        SharedRows(short, JoinedRows(predict))([part(1), part(2)])


def test_an_answer_that_has_no_room_is_an_error() -> None:
    side = Side()

    def large(message: Message, some: Tensors) -> tuple[str, tuple[int, ...]]:
        _, room = side.memories.read(message.whole())
        room.write(np.zeros((1, 2, *SAMPLE), np.float32))
        raise AssertionError("it was written")

    with pytest.raises(ValueError, match="the answer has 16384 bytes, and its room 8192"):
        SharedRows(large, JoinedRows(predict))([part(1)])


def test_what_does_not_change_stays_the_very_array_while_groups_alternate() -> None:
    rows, side = shared()
    seen = []
    for step in range(4):
        check(rows, [part(1 + step % 2, step=step, group="tall" if step % 2 else "square")])
        seen.append(side.inputs["text"])
    assert seen[0] is seen[2]
    assert seen[1] is seen[3]


def test_what_does_not_change_is_the_very_array_of_the_last_call() -> None:
    rows, side = shared()
    seen = []
    for step in range(3):
        check(rows, [part(1, step=step), part(2, step=step)])
        seen.append((side.inputs["text"], side.inputs["sample"]))
    assert seen[0][0] is seen[1][0] is seen[2][0]
    assert seen[0][1] is not seen[1][1]
    check(rows, [part(1, step=3), part(3, step=0)])
    assert side.inputs["text"] is not seen[0][0]


def test_small_rows_are_sent_as_a_whole() -> None:
    side = Side()
    check(SharedRows(side, JoinedRows(predict), in_place_bytes=1 << 20), [part(1)])
    assert not side.said


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 5), st.sampled_from(["square", "tall"])), min_size=1, max_size=4, unique=True
        ),
        min_size=1,
        max_size=12,
    )
)
def test_edits_come_and_go(calls: list[list[tuple[int, str]]]) -> None:
    rows, _ = shared()
    for step, edits in enumerate(calls):
        for group in ("square", "tall"):
            # an edit has all of its rows, or the first ones alone, and is of one group
            asked = [(edit * 2 + (group == "tall"), edit % 3 + 1) for edit, of in edits if of == group]
            parts = [part(edit, max(1, most - (edit + step) % 3), step, group) for edit, most in asked]
            if parts:
                check(rows, parts)
            elif step % 3 == 0:
                rows.forget(group)


def uneven(edit: int, step: int, tokens: int, text: int) -> Part:
    """Of other lengths, and of no references where the text is short."""
    whole = part(edit, edit % 2 + 1, step, f"{tokens} {text}")
    references = {"references": np.full((whole.rows, 30 * (text > 8), 32), float(edit), np.float32)}
    constant = {name: array[:, :text] for name, array in whole.constant.items()} | references
    changing = {name: array[:, :tokens] for name, array in whole.changing.items()}
    return Part(edit, whole.group, whole.rows, constant, changing)


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True), min_size=1, max_size=12))
def test_rows_of_other_lengths_are_filled_up_with_zeros(calls: list[list[int]]) -> None:
    rows, side = shared()
    for step, edits in enumerate(calls):
        parts = [uneven(edit, step, (64, 20, 33)[edit % 3], (16, 5)[edit // 3]) for edit in edits]
        for ours, each in zip(list(rows(parts)), parts, strict=True):
            theirs = predict(each.constant | each.changing)
            assert np.array_equal(ours[:, : theirs.shape[1]], theirs)
        for name, array in side.inputs.items():
            assert array.shape[1] == max((each.constant | each.changing)[name].shape[1] for each in parts)
            real = sum(float((each.constant | each.changing)[name].sum(dtype=np.float64)) for each in parts)
            assert float(array.sum(dtype=np.float64)) == pytest.approx(real), name
        if step % 3 == 0:
            rows.forget(parts[0].group)


def order(parts: Sequence[Part], places: dict[int, int]) -> list[int]:
    return [placed.edit for placed in arrange(parts, places)]


def test_a_new_edit_takes_the_place_of_one_that_has_left() -> None:
    assert order([part(2), part(3), part(4)], {1: 0, 2: 1, 3: 2}) == [4, 2, 3]
    assert order([part(2), part(3)], {1: 0, 2: 1, 3: 2}) == [3, 2], "else the last one does"
    assert order([part(2, 2), part(3)], {1: 0, 2: 1, 3: 3}) == [3, 2], "if it fits"
    assert order([part(2, 2)], {1: 0, 2: 1}) == [2], "and where none does, the rest moves up"
