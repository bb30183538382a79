"""The memory of rows: given back, kept for the next edits, written anew, and refused where it is none."""

import contextlib
import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest

from backends.in_place import Memories, UnknownCallError
from tests.edit.sharing import check, part, shared


def held() -> int:
    """Bytes in memories of this process, but for those of tests before, which must not go in the middle of this one."""
    gc.collect()
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            if link.readlink().name.startswith("memfd:tritouch-"):
                found[link.readlink().name] = link.stat().st_blocks * 512
    return sum(found.values())


def test_memory_is_given_back() -> None:
    rows, _ = shared()
    gc.collect()  # what other tests have left is gone before, and not meanwhile
    before, sizes = held(), []
    for count in (1, 8, 16):
        check(rows, [part(edit) for edit in range(count)])
        sizes.append(held() - before)
    assert 0 < sizes[0] < sizes[1] < sizes[2] < 2.5 * sizes[1], "a larger one takes the place of a smaller"
    rows.forget("square")
    assert held() - before == sizes[2], "which is kept for the next edits"
    check(rows, [part(20, group="tall")])
    assert held() - before == sizes[2], "and that they take"


def test_only_the_largest_memories_are_kept() -> None:
    rows, side = shared()
    before, tokens = held(), []
    for count in (4, 1, 8, 2):
        check(rows, [part(edit, group=f"{count}") for edit in range(count)])
        tokens.append(side.whole["token"])
    all_of_them = held() - before
    for count in (4, 1, 8, 2):
        rows.forget(f"{count}")
    assert 0 < held() - before < all_of_them
    for count, kept in ((3, tokens[0]), (5, tokens[2])):
        check(rows, [part(edit, group=f"{count}") for edit in range(count)])
        assert side.whole["token"] == kept, "the smallest that is large enough"


def test_a_memory_that_is_too_small_makes_room_for_a_larger() -> None:
    rows, side = shared()
    check(rows, [part(1)])
    small, before = side.whole["token"], held()
    rows.forget("square")
    check(rows, [part(edit, group="tall") for edit in range(8)])
    assert side.whole["token"] != small
    rows.forget("tall")
    check(rows, [part(1)])
    assert side.whole["token"] != small, "it is no more"
    assert held() > before


def test_edits_that_join_are_written_beside_those_that_are_there_where_there_is_room() -> None:
    rows, side = shared()
    check(rows, [part(edit) for edit in range(4)])
    rows.forget("square")
    places = []
    for count in (1, 2, 4, 5):
        check(rows, [part(edit) for edit in range(10, 10 + count)])
        message = side.whole
        places.append([message["token"], *(told[0] for told in message["tensors"].values())])
    assert places[0] == places[1] == places[2] != places[3]


def test_what_stands_where_others_stood_is_read_anew() -> None:
    """The other side goes by place, shape and version, which may be of edits that are long gone."""
    rows, side = shared()
    tokens, versions = set(), []
    for edit in range(4):
        check(rows, [part(edit)])
        tokens.add(side.whole["token"])
        versions.append(side.whole["tensors"]["text"])
        rows.forget("square")
    assert len(tokens) == 1
    assert len({json.dumps(each) for each in versions}) == 4


@pytest.mark.parametrize(
    "changed",
    [
        {"file": "/etc/passwd"},
        {"file": "/proc/1/fd/99999"},
        {"token": "tritouch-" + "0" * 32},
        {"tensors": {"text": [1 << 40, "<f4", [1], 0]}},
        {"tensors": {"text": [0, "<f4", [-2, -2], 0]}},
        {"tensors": {"text": [0, "O", [1], 0]}},
        {"tensors": {"text": [0, "no type", [1], 0]}},
        {"tensors": {"text": [0, "<f4", ["a"], 0]}},
        {"tensors": {"text": []}},
        {"tensors": {"text": [1 << 70, "<f4", [1], 0]}},
        {"answer": 0},
        {"answer": []},
        {"answer": None},
        {"answer": [1 << 40, 4]},
        {"answer": [0, 1 << 40]},
        {"answer": [0, -2]},
        {"tensors": None},
        {"tensors": {"text": None}},
        {"tensors": {"text": 7}},
        {"call": 7},
        {"call": None},
        {"changing": None},
        {"changing": [[]]},
    ],
)
def test_a_call_that_tells_of_nothing_is_refused(changed: dict[str, Any]) -> None:
    rows, side = shared()
    rows([part(1)])
    with pytest.raises(ValueError, match="the call is of no use"):
        Memories().read(json.dumps({**side.whole, **changed}).encode())
    for text in (b"", b"{", b"[]", b"null", b"7", b"[" * 100_000, b"\xff"):
        with pytest.raises(ValueError, match="the call is of no use"):
            side.memories.read(text)


@pytest.mark.parametrize("changed", [{"tensors": {"text": [0, "O", [1], 0]}}, {"answer": None}])
def test_a_call_that_is_refused_ends_the_one_before(changed: dict[str, Any]) -> None:
    """What that one does not tell of may have changed since, as the refused one told."""
    rows, side = shared()
    rows([part(1)])
    name = side.whole["call"].encode()
    side.memories.read(name)
    with pytest.raises(ValueError, match="the call is of no use"):
        side.memories.read(json.dumps({**side.whole, "call": "f" * 16, **changed}).encode())
    with pytest.raises(UnknownCallError):
        side.memories.read(name)


def test_memory_that_may_shrink_under_a_reader_is_refused() -> None:
    token = f"tritouch-{'a' * 32}"
    descriptor = os.memfd_create(token, os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, 4096)
    said = {"file": f"/proc/{os.getpid()}/fd/{descriptor}", "token": token, "tensors": {}}
    with pytest.raises(ValueError, match="it may shrink"):
        Memories().read(json.dumps(said).encode())
    os.close(descriptor)
