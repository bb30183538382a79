"""A network that fails between the gateway and Triton: the right code, inside the deadline, and well again after."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from tests.gateway.asking import failure, get, post, until
from tests.gateway.fake_triton import FakeTriton, after, at_once
from tests.gateway.faulty import Fault, FaultProxy
from tests.gateway.serving import Gateway, Loop, serving

DEADLINE = 0.6
SLACK = 0.2
"""How much longer the gateway waits for Triton to say that the deadline is over."""


@pytest.fixture
def proxy(loop: Loop, triton: FakeTriton) -> Iterator[FaultProxy]:
    proxy = FaultProxy(triton.port)
    loop.run(proxy.start())
    yield proxy
    loop.run(proxy.stop())


@pytest.fixture
def behind(loop: Loop, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway that reaches Triton through the proxy only."""
    monkeypatch.setattr("gateway.triton.CLIENT_SLACK_SECONDS", SLACK)
    with serving(loop, SimpleNamespace(port=proxy.port), edit_timeout_seconds=DEADLINE) as gateway:  # type: ignore[arg-type]
        yield gateway


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
    start = time.monotonic()
    assert failure(post(behind))[1] in codes
    assert time.monotonic() - start < DEADLINE + SLACK + 2
    _well_again(behind, proxy)


def test_slow_is_not_a_fault(behind: Gateway, proxy: FaultProxy, triton: FakeTriton) -> None:
    proxy.fault = "slow"
    assert post(behind).status_code in (200, 504)
    _well_again(behind, proxy)


def test_a_connection_lost_in_the_middle_of_edits(
    behind: Gateway, proxy: FaultProxy, triton: FakeTriton, loop: Loop
) -> None:
    triton.behave = after(30)
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(post, behind) for _ in range(5)]
        assert until(lambda: triton.active == 5)
        start = time.monotonic()
        loop.run(proxy.cut())
        assert [failure(answer.result()) for answer in answers] == [(503, "unavailable")] * 5
        assert time.monotonic() - start < 1
    triton.behave = at_once
    _well_again(behind, proxy)
