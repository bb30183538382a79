"""Friendli's own SDK, sync and async, against the running gateway."""

import asyncio
import base64
import logging

import pytest
from friendli import AsyncFriendli, SyncFriendli

from tests.gateway.asking import PNG64
from tests.gateway.fake_triton import JPEG, RAW, FakeTriton, element, tensors
from tests.gateway.serving import Gateway

ASK = {"prompt": "make it snow", "timeout_ms": 60_000}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)


def test_sync(gateway: Gateway, triton: FakeTriton) -> None:
    with SyncFriendli(token="t", x_friendli_team="") as friendli:
        answer = friendli.container.image.edit(image={"image": PNG64}, server_url=gateway.url, **ASK)
        assert base64.b64decode(answer.image) == JPEG
        several = [{"image": PNG64}, {"image": PNG64}]
        answer = friendli.container.image.edit(
            image=several, response_format="raw", seed=5, server_url=gateway.url, **ASK
        )
        assert base64.b64decode(answer.image) == RAW
    assert [list(one.inputs[0].shape) for one in triton.requests] == [[1], [2]]


def test_async(gateway: Gateway, triton: FakeTriton) -> None:
    async def edit() -> bytes:
        async with AsyncFriendli(token="t", x_friendli_team="") as friendli:
            answer = await friendli.container.image.edit(image={"image": PNG64}, server_url=gateway.url, **ASK)
            return base64.b64decode(answer.image)

    assert asyncio.run(edit()) == JPEG
    assert element(tensors(triton.requests[0])["prompt"]) == b"make it snow"


def test_a_refusal_is_an_sdk_error(gateway: Gateway) -> None:
    from friendli.core.models import SDKError

    with (
        SyncFriendli(token="t", x_friendli_team="") as friendli,
        pytest.raises(SDKError) as caught,
    ):
        friendli.container.image.edit(image={"image": PNG64}, num_inference_steps=51, server_url=gateway.url, **ASK)
    assert caught.value.status_code == 422
    assert '"code":"parameter_invalid"' in caught.value.body
