"""Pictures from text alone: both SDKs, and their JSON by hand, on the route that they share."""

import asyncio
import base64
import io
import logging
import struct
from typing import Any

import grpc
import httpx
import openai
import pytest
from friendli import AsyncFriendli, SyncFriendli
from friendli.core.models import SDKError
from PIL import Image

from tests.gateway.asking import GENERATIONS, PNG64, body, failure, get, post, until
from tests.gateway.fake_triton import HEIGHT, JPEG, RAW, TOKENS, USED, WIDTH, FakeTriton, element, failing, tensors
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.test_observe import counted, shown

FRIENDLI = {"prompt": "a cat", "timeout_ms": 60_000}
"""As the SDK's user asks; it adds 20 steps and a guidance scale of 0."""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)


@pytest.fixture
def client(gateway: Gateway) -> Any:
    with openai.OpenAI(api_key="k", base_url=gateway.url + "/v1", max_retries=0) as client:
        yield client


def generate(gateway: Gateway, **fields: Any) -> httpx.Response:
    return post(gateway, GENERATIONS, json={"prompt": "a cat", **fields})


def kind_of(b64: str | None) -> str | None:
    return Image.open(io.BytesIO(base64.b64decode(b64 or ""))).format


def test_friendlis_sdk(gateway: Gateway, triton: FakeTriton) -> None:
    with SyncFriendli(token="t", x_friendli_team="") as friendli:
        answer = friendli.container.image.generate(server_url=gateway.url, **FRIENDLI)
        assert base64.b64decode(answer.image) == JPEG
        raw = friendli.container.image.generate(
            response_format="raw", seed=5, num_inference_steps=4, model="oil", server_url=gateway.url, **FRIENDLI
        )
        assert base64.b64decode(raw.image) == RAW
        neither = friendli.container.image.generate(
            num_inference_steps=None, guidance_scale=None, server_url=gateway.url, **FRIENDLI
        )
        assert kind_of(neither.image) == "PNG", "with nothing to tell, the answer is OpenAI's, and has an image too"
    first, second, _ = map(tensors, triton.requests)
    assert [list(request.inputs[0].shape) for request in triton.requests] == [[0], [0], [0]]
    assert first["image"] == b""
    assert element(first["prompt"]) == b"a cat"
    assert struct.unpack("<2i", first["size"]) == (0, 0)
    assert struct.unpack("<i", first["num_inference_steps"]) == (20,), "the SDK's own default, which is sent"
    assert struct.unpack("<f", first["guidance_scale"]) == (0,)
    assert struct.unpack("<i", second["num_inference_steps"]) == (4,)
    assert struct.unpack("<Q", second["seed"]) == (5,)
    assert element(second["model"]) == b"oil"


def test_friendlis_sdk_async_and_its_errors(gateway: Gateway, triton: FakeTriton) -> None:
    async def made(**more: Any) -> bytes:
        async with AsyncFriendli(token="t", x_friendli_team="") as friendli:
            answer = await friendli.container.image.generate(server_url=gateway.url, **FRIENDLI, **more)
            return base64.b64decode(answer.image)

    assert asyncio.run(made()) == JPEG
    with pytest.raises(SDKError) as caught:
        asyncio.run(made(control_images=[{"image": PNG64}]))
    assert caught.value.status_code == 422
    assert "control_images: is not served: send pictures as `image` to /v1/images/edits." in caught.value.body


def test_openais_sdk(client: openai.OpenAI, triton: FakeTriton) -> None:
    answer = client.images.generate(prompt="a cat")
    assert answer.data
    assert kind_of(answer.data[0].b64_json) == "PNG"
    assert (answer.output_format, answer.size) == ("png", f"{WIDTH}x{HEIGHT}")
    assert answer.usage
    assert answer.usage.total_tokens == sum(TOKENS)
    assert answer.model_dump()["num_inference_steps"] == USED["num_inference_steps"]
    sent = tensors(triton.requests[0])
    assert (list(triton.requests[0].inputs[0].shape), sent["image"]) == ([0], b"")
    assert struct.unpack("<i", sent["num_inference_steps"]) == (0,), "the repository's own"
    assert struct.unpack("<2i", sent["size"]) == (0, 0)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"size": "1536x1024", "output_format": "webp", "output_compression": 80}, "WEBP"),
        ({"size": "1536x1024", "output_format": "jpeg"}, "JPEG"),
        (
            {"size": "1536x1024", "n": 1, "quality": "auto", "background": "opaque", "moderation": "low", "user": "u"}
            | {"response_format": "b64_json", "stream": False, "partial_images": 0, "safety_identifier": "s"},
            "PNG",
        ),
    ],
)
def test_openais_fields(client: openai.OpenAI, triton: FakeTriton, options: dict[str, Any], kind: str) -> None:
    extra = {"seed": 5, "num_inference_steps": 7, "guidance_scale": 2.5}
    answer = client.images.generate(prompt="a cat", model="oil", extra_body=extra, **options)
    assert answer.data
    assert kind_of(answer.data[0].b64_json) == kind
    sent = tensors(triton.requests[0])
    assert struct.unpack("<2i", sent["size"]) == (1536, 1024)
    assert struct.unpack("<Q", sent["seed"]) == (5,)
    assert struct.unpack("<i", sent["num_inference_steps"]) == (7,)
    assert struct.unpack("<f", sent["guidance_scale"]) == (2.5,)
    assert element(sent["model"]) == b"oil"


@pytest.mark.parametrize(
    "extra", [{"num_inference_steps": 4}, {"guidance_scale": 3}, {"num_inference_steps": 4, "seed": 1}]
)
def test_openais_sdk_reads_what_looks_like_friendlis(
    client: openai.OpenAI, triton: FakeTriton, extra: dict[str, Any]
) -> None:
    answer = client.images.generate(prompt="a cat", model="base", extra_body=extra)
    assert answer.data
    assert base64.b64decode(answer.data[0].b64_json or "") == JPEG
    assert (answer.output_format, answer.size) == ("jpeg", f"{WIDTH}x{HEIGHT}")


def test_friendlis_json_by_hand(gateway: Gateway, triton: FakeTriton) -> None:
    answer = generate(
        gateway, num_inference_steps=4, response_format="jpeg", control_images=None, seed=2**64 - 1
    ).json()
    assert base64.b64decode(answer["image"]) == JPEG
    assert (answer["width"], answer["height"], answer["seed"]) == (WIDTH, HEIGHT, 2**64 - 1)
    assert {name: answer[name] for name in USED} == USED, "the answer says what it was made with"
    assert "data" not in answer
    assert generate(gateway, guidance_scale=0).json().keys() >= {"image", "data", "created"}
    assert (
        generate(gateway, size="auto").json().keys() | {"image", "width", "height"} == generate(gateway).json().keys()
    )
    assert "image" not in generate(gateway, size="auto").json()


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"n": 11}, 422, "n: must be at most 10."),
        ({"n": True}, 422, "n: must be a whole number."),
        ({"n": "1"}, 422, "n: must be a whole number."),
        ({"quality": "best"}, 400, "quality: only auto, low, medium, high, standard or hd is served."),
        ({"background": "transparent"}, 400, "background: only auto or opaque is served."),
        ({"stream": "true"}, 422, "stream: must be true or false."),
        ({"partial_images": 2}, 422, "partial_images: goes with stream=true alone."),
        ({"response_format": "url"}, 400, "response_format: only b64_json is served."),
        ({"response_format": "png"}, 422, "response_format: only raw or jpeg is served."),
        ({"response_format": "jpeg", "n": 1}, 400, "response_format: only b64_json is served."),
        ({"output_format": "svg"}, 400, "output_format: only png, jpeg or webp is served."),
        ({"output_format": "png", "output_compression": 50}, 400, "output_compression: only 100 is served with png."),
        ({"moderation": "high"}, 400, "moderation: only auto or low is served."),
        ({"style": "vivid"}, 400, "style: is not served."),
        ({"svg": {"model": "x"}, "n": 1}, 400, "svg: is not served."),
        ({"width": 512, "height": 512}, 400, "height: is not served."),
        ({"mask": "x"}, 400, "mask: is not served."),
        ({"image": {"image": PNG64}}, 400, "image: is not served here: send pictures as `image` to /v1/images/edits."),
        ({"images": [{"image_url": PNG64}]}, 400, "images: is not served here: send them to /v1/images/edits."),
        ({"image_guidance_scale": 2}, 400, "image_guidance_scale: is not served here: there is no picture to keep to."),
        (
            {"control_images": [{"image": PNG64}], "num_inference_steps": 20},
            422,
            "control_images: is not served: send pictures as `image` to /v1/images/edits.",
        ),
        ({"controlnet_weights": [0.5]}, 422, "controlnet_weights: is not served."),
        *(
            ({"size": size}, 422, "size: give auto, or width and height in pixels as in 1024x1024.")
            for size in ("big", "1024", "0x64", "64x-64", "064x64", "64X64", "100000x64", "64x64\n", "\u0661x64")
        ),
        ({"size": 1024}, 422, "size: must be text."),
        (
            {"num_inference_steps": 51, "size": "auto"},
            422,
            "num_inference_steps: must be at most 50.",
        ),
        ({"num_inference_steps": 0}, 422, "num_inference_steps: must be at least 1."),
        ({"seed": -1}, 422, "seed: must be at least 0."),
        ({"prompt": " "}, 422, "prompt: must hold text, and no NUL character."),
        ({"prompt": None}, 422, "prompt: is missing."),
    ],
)
def test_what_is_not_served_is_named(
    gateway: Gateway, triton: FakeTriton, fields: dict[str, Any], status: int, message: str
) -> None:
    answer = generate(gateway, **fields)
    assert (failure(answer)[0], answer.json()["detail"]) == (status, message)
    assert answer.json()["error"]["param"] == message.partition(":")[0]
    assert not triton.requests


def test_what_no_sdk_sends_is_4xx(gateway: Gateway, triton: FakeTriton) -> None:
    for content in (b"", b"[]", b"null", b'"cat"', b"7"):
        answer = post(gateway, GENERATIONS, content=content, headers={"content-type": "application/json"})
        assert failure(answer)[0] in (400, 422)
    form = post(gateway, GENERATIONS, files={"prompt": (None, "a cat")})
    assert failure(form) == (415, "unsupported_media_type")
    assert form.json()["detail"] == "Send application/json."
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as client:
        assert failure(client.get(GENERATIONS)) == (405, "method_not_allowed")
    assert not triton.requests


def test_a_model_that_edits_only_is_404(gateway: Gateway, triton: FakeTriton, client: openai.OpenAI) -> None:
    words = "tritouch:generations_unavailable this model makes no pictures from text alone: send at least one image"
    triton.behave = failing(grpc.StatusCode.INVALID_ARGUMENT, words)
    said = "This model makes no pictures from text alone: send one to POST /v1/images/edits."
    answer = generate(gateway)
    assert (failure(answer), answer.json()["detail"]) == ((404, "generations_unavailable"), said)
    with pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(prompt="a cat")
    assert caught.value.code == "generations_unavailable"


def test_a_size_that_the_model_does_not_make_is_told_the_bound(gateway: Gateway, triton: FakeTriton) -> None:
    served = "the answer may have at most 262144 pixels"
    triton.behave = failing(grpc.StatusCode.INVALID_ARGUMENT, f"tritouch:size_unavailable {served}")
    answer = generate(gateway, size="500x500")
    assert failure(answer) == (422, "size_unavailable")
    assert answer.json()["error"]["param"] == "size"
    assert answer.json()["detail"] == f"The model does not make pictures of this size. T{served[1:]}."


@pytest.mark.parametrize(("said", "told"), [("1024x1024", "1024x1024"), ("", None)])
def test_the_models_tell_whether_they_make_pictures_from_text(
    gateway: Gateway, triton: FakeTriton, said: str, told: str | None
) -> None:
    triton.offer["generation_size"] = said
    assert [model["generation_size"] for model in get(gateway, "/v1/models").json()["data"]] == [told]


def test_tokens_limits_and_ids_are_those_of_edits(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, api_keys=("one",), max_body_bytes=1000) as gateway:
        assert failure(generate(gateway)) == (401, "unauthorized")
        key = {"authorization": "Bearer one", "x-request-id": "mine"}
        asked = {"prompt": "x" * 2000}
        assert failure(post(gateway, GENERATIONS, json=asked, headers=key)) == (413, "body_too_large")
        answer = post(gateway, GENERATIONS, json={"prompt": "a cat"}, headers=key)
        assert (answer.status_code, answer.headers["x-request-id"], triton.requests[0].id) == (200, "mine", "mine")
        seen = (("200", "ok"), ("401", "unauthorized"), ("413", "body_too_large"))
        assert until(lambda: shown(gateway, *(counted(GENERATIONS, *one) for one in seen)))


def test_a_key_makes_two_requests_one_picture(gateway: Gateway, triton: FakeTriton) -> None:
    key = {"idempotency-key": "k"}
    first, again = (post(gateway, GENERATIONS, json={"prompt": "a cat"}, headers=key).json() for _ in range(2))
    assert first == again
    assert len(triton.requests) == 1
    assert post(gateway, json=body(), headers=key).status_code == 200
    assert len(triton.requests) == 2
