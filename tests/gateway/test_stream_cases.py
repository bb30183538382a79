"""Generated streams: odd requests, Triton failing anywhere, callers leaving anywhere, or slow: nothing is left."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.admission import Memory
from gateway.protocol import Protocol
from tests.gateway.asking import CASES, EDITS, GENERATIONS, failure, until
from tests.gateway.fake_triton import (
    HEIGHT,
    JPEG,
    WIDTH,
    FakeTriton,
    StreamBehaviour,
    begun,
    breaking,
    finished,
    outputs,
    preview,
    progress,
    telling,
    told,
)
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.streaming import NOTHING, events_of, held, opened, watched

NEVER = threading.Event()
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "n": st.integers(0, 11),
        "partial_images": st.integers(-1, 4),
        "progress": st.booleans() | st.none(),
        "size": st.sampled_from(["auto", "640x480", "0x7", "", None]),
        "seed": st.integers(0, 2**64 - 1),
        "negative_prompt": st.text(max_size=20),
        "mask": st.sampled_from(["", None, "%%%"]),
    },
)
PARTS: list[Any] = [begun(), progress(1), progress(1, index=9), lambda request: preview(request, 0), finished]
ENDS: list[StreamBehaviour | None] = [
    None,
    told,
    telling(NEVER),
    breaking(grpc.StatusCode.INTERNAL, "no"),
    breaking(grpc.StatusCode.UNAVAILABLE, "tritouch:queue_full"),
    breaking(grpc.StatusCode.CANCELLED, "the server is stopping"),
    telling("tritouch:expired"),
]
SCRIPTS = st.just(told) | st.builds(
    lambda parts, end: telling(begun(), *parts, then=end),
    st.lists(st.sampled_from(PARTS), max_size=5),
    st.sampled_from(ENDS),
)
HALF = "with half a body"
ABRUPTLY = (HALF, "without an answer")
LEAVING = st.sampled_from([*ABRUPTLY, "at the head", "never"]) | st.integers(1, 4)
KEYS = st.none() | st.sampled_from(["a", "b"])


@pytest.fixture(scope="module")
def _gateway(loop: Loop, _triton: FakeTriton) -> Iterator[Gateway]:
    """One that soon forgets who has left, and whose edits may take a quarter of a second."""
    with serving(loop, _triton, orphan_grace_seconds=0.02, edit_timeout_seconds=0.25, ping_seconds=0.02) as gateway:
        yield gateway


def _by_hand(path: str, content: bytes) -> bytes:
    """A whole request."""
    head = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    )
    return "\r\n".join((*head, "", "")).encode() + content


def _watched_until(gateway: Gateway, path: str, leaving: str | int, **request: Any) -> str:
    """Read a stream until so many events have come, and leave. Gives what became of it."""
    seen: list[str] = []
    with suppress(httpx.ReadTimeout), opened(gateway, path, timeout=5, **request) as answer:
        if answer.status_code != 200:
            answer.read()
            assert failure(answer)[0] in (400, 422, 429, 500, 503, 504)
            return "refused"
        assert answer.headers["content-type"] == "text/event-stream"
        if leaving == "at the head":
            return "left"
        for name, _ in events_of(answer):
            assert name in ("", "error") or name.startswith("image_")
            seen.append(name)
            if len(seen) == leaving:
                return "left"
    return "failed" if "error" in seen else "done" if seen and seen[-1].endswith("completed") else "silent"


def test_nothing_is_left_of_any_stream(gateway: Gateway, triton: FakeTriton) -> None:
    outcomes: Counter[str] = Counter()

    @given(fields=FIELDS, script=SCRIPTS, leaving=LEAVING, key=KEYS, pictures=st.booleans())
    @settings(
        max_examples=max(CASES, 200) if CASES >= 100 else CASES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def one(
        fields: dict[str, Any], script: StreamBehaviour, leaving: str | int, key: str | None, pictures: bool
    ) -> None:
        triton.tell = script
        path = EDITS if pictures else GENERATIONS
        content = json.dumps(watched(**fields) if pictures else {"prompt": "x", "stream": True} | fields).encode()
        if leaving in ABRUPTLY:
            with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
                connection.sendall(_by_hand(path, content)[: -len(content) // 2 if leaving == HALF else None])
            outcomes[str(leaving)] += 1
        else:
            headers = {"content-type": "application/json"} | ({"idempotency-key": key} if key else {})
            outcomes[_watched_until(gateway, path, leaving, content=content, headers=headers)] += 1

    one()
    httpx.get(f"{gateway.url}/livez")  # whoever connected before, and has left since, has been met by now
    assert until(lambda: held(gateway) == NOTHING and triton.active == 0), held(gateway)
    assert len(outcomes) > 3, outcomes


def test_who_reads_nothing_is_cut_off_and_holds_nothing(
    loop: Loop, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = [0]
    keep = Memory.keep

    def kept(memory: Memory, caller: str, difference: int, awaited: bool) -> None:
        keep(memory, caller, difference, awaited)
        seen.append(memory.held)

    def look(protocol: Protocol, unread: int) -> None:
        """However long two previews take to come: nobody is cut off before."""
        if max(seen) > 20_000_000:
            looked(protocol, unread)
        else:
            protocol._look_again(unread)

    looked = Protocol._look
    monkeypatch.setattr(Memory, "keep", kept)
    monkeypatch.setattr(Protocol, "_look", look)
    sizes = {"size": ("INT32", [WIDTH, HEIGHT]), "index": ("INT32", [0]), "partial_index": ("INT32", [0])}
    large = outputs([JPEG + bytes(8_000_000)], sizes)
    triton.tell = telling(begun(), large, large, large, NEVER)
    content = json.dumps(watched(partial_images=3)).encode()
    bounds = {"max_held_bytes": 25_000_000, "max_caller_bytes": 25_000_000, "max_body_bytes": 1_000_000}
    with (
        serving(loop, triton, body_pause_seconds=0.4, body_bytes_per_second=1_000_000, **bounds) as gateway,
        socket.create_connection(("127.0.0.1", gateway.port)) as connection,
    ):
        connection.sendall(_by_hand(EDITS, content))
        assert until(lambda: max(seen) > 20_000_000)
        assert until(lambda: triton.cancelled >= 1 and triton.active == 0 and held(gateway) == NOTHING)
    assert 20_000_000 < max(seen) < 25_000_000, "a third preview is left out"
