"""The client before the real gateway."""

import threading

import httpx
import pytest

import tritouch
from tests.gateway.asking import until
from tests.gateway.fake_triton import when
from tests.tritouch.conftest import jpeg
from tritouch import Client

SNOW = "make it snow"


def test_the_real_gateway_edits(asks, gateway):
    picture = asks("edit", jpeg(), SNOW, seed=3, steps=8, guidance=2.0, model="base", format="jpeg", size="auto")
    assert (picture.image.size, picture.width, picture.height, picture.seed) == ((16, 8), 16, 8, 3)
    assert asks("status").edits_in_flight == 0
    assert asks("models")[0]["id"] == "base"


def test_the_real_gateway_refuses(asks, gateway):
    with pytest.raises(tritouch.RefusedError, match=r"token.*TRITOUCH_API_KEY") as raised:
        asks("edit", jpeg(), SNOW, settings={"api_key": "wrong"})
    assert (raised.value.status, raised.value.code) == (401, "unauthorized")
    with pytest.raises(tritouch.RefusedError, match="num_inference_steps"):
        asks("edit", jpeg(), SNOW, steps=51)


def test_the_real_gateway_joins_what_is_sent_again(gateway, waits):
    """A connection that breaks while an edit runs: the same edit answers the second request."""
    released = threading.Event()
    gateway.triton.behave = when(released)

    def broken(doing: str, _: object) -> None:
        if doing == "http11.receive_response_headers.started":
            assert until(lambda: len(gateway.triton.requests) == 1)
            raise httpx.ReadError("broken", request=tried[0])

    tried: list[httpx.Request] = []
    with Client() as client:
        send = client._send

        def breaking(request: httpx.Request) -> httpx.Response | httpx.RequestError:
            tried.append(request)
            if len(tried) > 1:
                released.set()
                return send(request)
            request.extensions["trace"] = broken
            came = send(request)
            assert isinstance(came, httpx.ReadError)
            return came

        client._send = breaking  # type: ignore[method-assign]
        picture = client.edit(jpeg(), SNOW)
    assert (len(tried), len(gateway.triton.requests)) == (2, 1)
    assert picture.width == 16
