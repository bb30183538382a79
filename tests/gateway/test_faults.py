"""A network that fails between the gateway and Triton: the right code, inside the deadline, and well again after."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import pytest

from tests.gateway.asking import failure, get, post, until
from tests.gateway.fake_triton import FakeTriton, after, at_once
from tests.gateway.faulty import Fault, FaultProxy
from tests.gateway.serving import Gateway, Loop, serving

IN_TIME = 20
"""Seconds within which a caller is answered, whatever happens; an edit could take longer."""


@pytest.fixture
def proxy(loop: Loop, triton: FakeTriton) -> Iterator[FaultProxy]:
    proxy = FaultProxy(int(triton.address.rpartition(":")[2]))
    loop.run(proxy.start())
    yield proxy
    loop.run(proxy.stop())


@pytest.fixture
def behind(loop: Loop, triton: FakeTriton, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway that reaches Triton through the proxy only."""
    monkeypatch.setattr("gateway.triton.CLIENT_SLACK_SECONDS", 0.2)
    with serving(loop, triton, triton_grpc=f"127.0.0.1:{proxy.port}") as gateway:
        yield gateway


@contextmanager
def _hurried(gateway: Gateway) -> Iterator[None]:
    """Edits that are begun in the block have little time."""
    edits = vars(gateway.app.state.edits)
    before = edits["_settings"]
    edits["_settings"] = before.model_copy(update={"edit_timeout_seconds": 0.6})
    yield
    edits["_settings"] = before


def _well_again(gateway: Gateway, proxy: FaultProxy) -> None:
    proxy.fault = "none"
    assert until(lambda: get(gateway, "/readyz").status_code == 200)
    assert post(gateway).status_code == 200


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        ("refused", {"unavailable"}),
        ("reset", {"unavailable"}),
        ("half an answer", {"unavailable", "edit_failed"}),
        ("hung", {"unavailable", "deadline_exceeded"}),
    ],
)
@pytest.mark.parametrize("connected", [True, False])
def test_faults(behind: Gateway, proxy: FaultProxy, fault: Fault, codes: set[str], connected: bool) -> None:
    if connected:
        assert post(behind).status_code == 200
    proxy.fault = fault
    if fault in ("refused", "reset"):
        behind.loop.run(proxy.cut())
    with _hurried(behind) if fault == "hung" else nullcontext():
        assert failure(post(behind, timeout=IN_TIME))[1] in codes
    _well_again(behind, proxy)


def test_slow_is_not_a_fault(behind: Gateway, proxy: FaultProxy, triton: FakeTriton) -> None:
    proxy.fault = "slow"
    assert post(behind).status_code == 200
    _well_again(behind, proxy)


def test_a_connection_lost_in_the_middle_of_edits(
    behind: Gateway, proxy: FaultProxy, triton: FakeTriton, loop: Loop
) -> None:
    triton.behave = after(600)
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(post, behind) for _ in range(5)]
        assert until(lambda: triton.active == 5)
        loop.run(proxy.cut())
        assert [failure(answer.result()) for answer in answers] == [(503, "unavailable")] * 5
    triton.behave = at_once
    _well_again(behind, proxy)
