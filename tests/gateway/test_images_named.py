"""What is wrong with a picture names the field that it came in: `images` in OpenAI's JSON, `image` elsewhere."""

import base64
from typing import Any

import grpc
import pytest

from tests.gateway.asking import PNG, PNG64, body, failure, post
from tests.gateway.fake_triton import FakeTriton, breaking, failing
from tests.gateway.serving import Gateway

NO_PICTURE = base64.b64encode(b"none").decode()
URL = "http://127.0.0.1/a.png"


def openais(picture: str = PNG64, **fields: Any) -> dict[str, Any]:
    return {"json": {"prompt": "x", "images": [{"image_url": picture}]} | fields}


def friendlis(picture: str = PNG64, **fields: Any) -> dict[str, Any]:
    return {"json": body(image={"image": picture}, **fields)}


@pytest.mark.parametrize(("asking", "name"), [(openais, "images"), (friendlis, "image")])
@pytest.mark.parametrize(
    ("picture", "code"),
    [
        (NO_PICTURE, "image_unreadable"),
        ("@/a.png", "image_unreadable"),
        (PNG64 + "\u00e9", "image_unreadable"),
        (URL, "image_url_unusable"),
        ("ftp://a.example/a.png", "image_url_unusable"),
    ],
)
def test_what_the_gateway_finds(gateway: Gateway, asking: Any, name: str, picture: str, code: str) -> None:
    answer = post(gateway, **asking(picture))
    assert failure(answer) == (422, code)
    error = answer.json()["error"]
    assert error["param"] == name
    assert not error["message"].startswith("image") or error["message"].startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("request_", "name"),
    [(openais(), "images"), (friendlis(), "image"), ({"files": {"image": PNG}, "data": {"prompt": "x"}}, "image")],
)
@pytest.mark.parametrize("code", ["image_unreadable", "image_too_large", "too_many_images"])
def test_what_the_model_finds(
    gateway: Gateway, triton: FakeTriton, request_: dict[str, Any], name: str, code: str
) -> None:
    triton.behave = failing(grpc.StatusCode.INVALID_ARGUMENT, f"tritouch:{code} words")
    answer = post(gateway, **request_)
    assert (failure(answer)[1], answer.json()["error"]["param"]) == (code, name)


def test_in_streams_too(gateway: Gateway, triton: FakeTriton) -> None:
    triton.tell = breaking(grpc.StatusCode.INVALID_ARGUMENT, "tritouch:image_unreadable words")
    assert post(gateway, **openais(stream=True)).json()["error"]["param"] == "images"


def test_a_mask_is_a_mask(gateway: Gateway, triton: FakeTriton) -> None:
    answer = post(gateway, **openais(mask={"image_url": NO_PICTURE}))
    assert answer.json()["error"]["param"] == "mask"
    triton.behave = failing(grpc.StatusCode.INVALID_ARGUMENT, "tritouch:mask_invalid words")
    assert post(gateway, **openais(mask={"image_url": PNG64})).json()["error"]["param"] == "mask"
