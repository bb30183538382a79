"""Two gateways behind a hash by key, as docs/reliability.md wants it: what each knows by itself is right for all."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway.asking import body, post, until
from tests.gateway.fake_triton import FakeTriton, when
from tests.gateway.sending import leave
from tests.gateway.serving import Gateway, Loop, serving

TOKENS = ("first", "second")
Pair = tuple[Gateway, Gateway]


@pytest.fixture
def gateways(loop: Loop, triton: FakeTriton) -> Iterator[Pair]:
    with serving(loop, triton, api_keys=TOKENS) as one, serving(loop, triton, api_keys=TOKENS) as other:
        yield one, other


def behind(gateways: Pair, headers: Mapping[str, str]) -> Gateway:
    """The one that a door chooses which hashes the idempotency key or, where there is none, the token."""
    chosen = headers.get("Idempotency-Key", headers["Authorization"])
    return gateways[hashlib.sha256(chosen.encode()).digest()[0] % 2]


def asking(token: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} | headers


def test_behind_a_hash_by_key_two_gateways_make_one_edit_of_one_key(gateways: Pair, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.behave = when(released)
    keys = [f"key-{number}" for number in range(4)]
    assert {behind(gateways, asking("first", **{"Idempotency-Key": key})) for key in keys} == set(gateways), "both"
    with ThreadPoolExecutor(8) as pool:
        answers = []
        for key in keys * 2:
            headers = asking("first", **{"Idempotency-Key": key})
            answers.append(pool.submit(post, behind(gateways, headers), json=body(), headers=headers))
        assert until(lambda: sum(one.app.state.edits.callers.inside for one in gateways) == 8)
        assert until(lambda: triton.active == len(keys))
        released.set()
        seeds = [answer.result().json()["seed"] for answer in answers]
    assert seeds[:4] == seeds[4:]
    assert len(triton.requests) == 4


@pytest.mark.parametrize("token", TOKENS)
def test_who_comes_again_without_a_key_finds_his_edit(gateways: Pair, triton: FakeTriton, token: str) -> None:
    released = threading.Event()
    triton.behave = when(released)
    headers = asking(token)
    gateway = behind(gateways, headers)
    leave(gateway.url, lambda: triton.active == 1, headers=headers)
    assert until(lambda: gateway.app.state.edits.callers.inside == 0)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(post, gateway, json=body(), headers=headers)
        assert until(lambda: gateway.app.state.edits.orphans.taken_over == 1)
        released.set()
        assert answer.result().status_code == 200
    assert len(triton.requests) == 1


def test_without_it_they_make_two(gateways: Pair, triton: FakeTriton) -> None:
    headers = asking("first", **{"Idempotency-Key": "the-same"})
    assert [post(one, json=body(seed=1), headers=headers).status_code for one in gateways] == [200, 200]
    assert len(triton.requests) == 2
