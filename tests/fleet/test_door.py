"""The door: Envoy before two real gateways, which stand before a Triton that does what it is told."""

import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.containers.engine import eventually
from tests.fleet.conftest import CHART
from tests.fleet.envoy import HOST, Envoy, running
from tests.fleet.tools import Tools
from tests.gateway.asking import EDITS, body
from tests.gateway.fake_triton import FakeTriton, at_once, when
from tests.gateway.serving import Gateway, Loop, serving, unhurried

KEYS = ("first", "second")
SETTLE_SECONDS = 2.0
"""Envoy's workers hear of hosts after its main thread, and nothing tells when."""


@pytest.fixture(scope="module")
def door(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Envoy, list[Gateway]]]:
    """Envoy, and the two gateways behind it."""
    loop, triton = Loop(), FakeTriton()
    with ExitStack() as stack:
        stack.enter_context(unhurried())
        stack.callback(loop.close)
        loop.run(triton.start())
        stack.callback(lambda: loop.run(triton.stop()))
        gateways = [stack.enter_context(serving(loop, triton, api_keys=KEYS)) for _ in range(2)]
        envoy = stack.enter_context(running(tools, tmp_path_factory.mktemp("door"), tools.render(CHART)))
        enter(envoy, gateways)
        yield envoy, gateways


def enter(envoy: Envoy, gateways: list[Gateway]) -> None:
    """These gateways, and no others, behind the door."""
    addresses = [f"{HOST}:{gateway.port}" for gateway in gateways]
    envoy.set_hosts("gateways", addresses)
    eventually(lambda: envoy.healthy("gateways") == set(addresses), "the gateways are not found")
    time.sleep(SETTLE_SECONDS)


@pytest.fixture
def triton(door: tuple[Envoy, list[Gateway]]) -> Iterator[FakeTriton]:
    triton = door[1][0].triton
    triton.reset()
    yield triton
    triton.reset()


def ask(envoy: Envoy, path: str = EDITS, data: bytes | None = None, **headers: str) -> tuple[int, dict[str, Any], Any]:
    """Status, JSON and headers of an answer; of a good edit where nothing else is said."""
    data = json.dumps(body(seed=1)).encode() if data is None else data
    request = urllib.request.Request(
        f"http://{HOST}:{envoy.ports['door']}{path}", data, method="POST" if data else "GET"
    )
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Bearer {KEYS[0]}")
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read()), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers


def edits_of(gateway: Gateway) -> int:
    """Edits under way there."""
    return int(gateway.app.state.edits.running.inside)


def test_requests_of_one_idempotency_key_become_one_edit_though_there_are_two_gateways(
    door: tuple[Envoy, list[Gateway]], triton: FakeTriton
) -> None:
    envoy, gateways = door
    released = threading.Event()
    triton.behave = when(released)
    with ThreadPoolExecutor(8) as pool:
        keys = [f"key-{number}" for number in range(4)]
        calls = [pool.submit(ask, envoy, Idempotency_Key=key) for key in keys * 2]
        try:
            eventually(lambda: sum(gateway.app.state.edits.callers.inside for gateway in gateways) == 8, "not all came")
        finally:
            released.set()
        answers = [call.result() for call in calls]
    assert {status for status, _, _ in answers} == {200}
    assert len(triton.requests) == len(keys)


def test_keys_are_spread_over_the_gateways_and_each_stays_with_its_own(
    door: tuple[Envoy, list[Gateway]], triton: FakeTriton
) -> None:
    envoy, gateways = door

    def took(key: str) -> int:
        before = [served(gateway) for gateway in gateways]
        assert ask(envoy, Idempotency_Key=key)[0] == 200
        return served_more(gateways, before, 1).index(1)

    first = [took(f"spread-{number}") for number in range(24)]
    assert set(first) == {0, 1}
    assert [took(f"spread-{number}") for number in range(24)] == first


def served(gateway: Gateway) -> int:
    """Edits that a gateway has answered."""
    with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    wanted = [line for line in lines if line.startswith("tritouch_gateway_requests_total{") and EDITS in line]
    return round(sum(float(line.rpartition(" ")[2]) for line in wanted))


def served_more(gateways: list[Gateway], before: list[int], number: int) -> list[int]:
    """How many edits each has answered since, of `number` in all: they are counted once they are sent."""

    def since() -> list[int]:
        return [served(gateway) - was for gateway, was in zip(gateways, before, strict=True)]

    eventually(lambda: sum(since()) >= number, "the edits are not counted")
    return since()


def test_without_a_key_the_callers_token_decides(door: tuple[Envoy, list[Gateway]], triton: FakeTriton) -> None:
    envoy, gateways = door
    before = [served(gateway) for gateway in gateways]
    for _ in range(6):
        assert ask(envoy)[0] == 200
    assert sorted(served_more(gateways, before, 6)) == [0, 6]


def test_an_edit_in_flight_is_finished_by_a_gateway_that_has_left(
    door: tuple[Envoy, list[Gateway]], triton: FakeTriton
) -> None:
    envoy, gateways = door
    released = threading.Event()
    triton.behave = when(released)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(ask, envoy)
        try:
            eventually(lambda: sum(map(edits_of, gateways)) == 1, "the edit has not begun")
            ((has, other),) = [(a, b) for a, b in itertools.permutations(gateways) if edits_of(a)]
            enter(envoy, [other])
            triton.behave = at_once
            before = served(other)
            assert ask(envoy)[0] == 200
            assert served_more([other], [before], 1) == [1]
            assert edits_of(has) == 1
        finally:
            released.set()
        assert call.result()[0] == 200
    enter(envoy, gateways)


@pytest.mark.parametrize("path", ["/livez", "/v1/models"])
def test_what_is_no_edit_passes_too(door: tuple[Envoy, list[Gateway]], triton: FakeTriton, path: str) -> None:
    assert ask(door[0], path, data=b"")[0] == 200


def test_a_door_without_gateways_answers_in_the_apis_own_words(
    door: tuple[Envoy, list[Gateway]], triton: FakeTriton
) -> None:
    envoy, gateways = door
    envoy.set_hosts("gateways", [])
    eventually(lambda: not envoy.healthy("gateways"), "the gateways are still there")
    status, content, headers = ask(envoy)
    assert (status, content["error"]["code"], headers["Retry-After"]) == (503, "unavailable", "1")
    assert headers["Content-Type"] == "application/json"
    assert content["detail"] == content["error"]["message"]
    assert set(content["error"]) == {"message", "type", "param", "code"}
    status, content, headers = ask(envoy, x_y="1" * 100_000)
    assert (status, content["error"]["code"]) == (431, "body_unreadable")
    enter(envoy, gateways)


def test_a_body_larger_than_envoys_buffers_arrives_whole(door: tuple[Envoy, list[Gateway]], triton: FakeTriton) -> None:
    request = json.dumps(body(seed=1)).encode()
    large = request[:-1] + b" " * (40 << 20) + b"}"
    assert ask(door[0], data=large)[0] == 200


def test_figures_are_served_and_nothing_else_of_the_admins(door: tuple[Envoy, list[Gateway]]) -> None:
    envoy, _ = door
    assert "envoy_cluster_upstream_rq_total" in envoy.get("figures", "/metrics")
    assert envoy.get("figures", "/config_dump") == ""
