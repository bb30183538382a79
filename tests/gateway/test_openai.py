"""OpenAI's own SDK, and its form by hand, on the same route."""

import asyncio
import base64
import io
import struct
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image, JpegImagePlugin

from gateway.errors import KINDS
from gateway.openai_schemas import ImageEditForm
from tests.gateway.asking import PNG, failure, picture, post
from tests.gateway.fake_triton import HEIGHT, JPEG, RAW, TOKENS, USED, WIDTH, FakeTriton, element, failing, tensors
from tests.gateway.serving import Gateway, Loop, serving

PIXELS = np.frombuffer(RAW, np.uint8).reshape(HEIGHT, WIDTH, 3)


@pytest.fixture
def client(gateway: Gateway) -> Any:
    with openai.OpenAI(api_key="k", base_url=gateway.url + "/v1", max_retries=0) as client:
        yield client


def _pixels(b64: str) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64))).convert("RGB"))


def test_one_file(client: openai.OpenAI, triton: FakeTriton) -> None:
    answer = client.images.edit(image=io.BytesIO(PNG), prompt="make it snow")
    assert np.array_equal(_pixels(answer.data[0].b64_json), PIXELS)
    assert answer.usage
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (TOKENS[0] + TOKENS[1], TOKENS[2])
    assert answer.usage.input_tokens_details.image_tokens == TOKENS[1]
    assert answer.usage.total_tokens == sum(TOKENS)
    assert answer.created > 0
    assert answer.size == f"{WIDTH}x{HEIGHT}"
    sent = tensors(triton.requests[0])
    assert element(sent["image"]) == PNG
    assert element(sent["prompt"]) == b"make it snow"
    assert struct.unpack("<i", sent["num_inference_steps"]) == (0,)
    assert answer.num_inference_steps == USED["num_inference_steps"]


def test_a_list_and_extra_fields(client: openai.OpenAI, triton: FakeTriton) -> None:
    extra = {"seed": 5, "num_inference_steps": 7, "guidance_scale": 2.5, "image_guidance_scale": 1.25}
    files = [("a.png", PNG, "image/png"), ("b", picture("WEBP"))]
    answer = client.images.edit(image=files, prompt="눈", model="adapter", output_format="jpeg", extra_body=extra)
    assert base64.b64decode(answer.data[0].b64_json) == JPEG
    sent = tensors(triton.requests[0])
    assert list(triton.requests[0].inputs[0].shape) == [2]
    assert struct.unpack("<Q", sent["seed"]) == (5,)
    assert struct.unpack("<i", sent["num_inference_steps"]) == (7,)
    assert struct.unpack("<f", sent["guidance_scale"]) == (2.5,)
    assert struct.unpack("<f", sent["image_guidance_scale"]) == (1.25,)
    assert element(sent["model"]) == b"adapter"


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"output_format": "png"}, "PNG"),
        ({"output_format": "webp", "output_compression": 80}, "WEBP"),
        ({"output_format": "jpeg", "output_compression": 30}, "JPEG"),
        ({"output_format": "jpeg"}, "JPEG"),
        ({"n": 1, "size": "auto", "background": "opaque", "stream": False, "user": "u"}, "PNG"),
        ({"quality": "high", "input_fidelity": "high"}, "PNG"),
    ],
)
def test_output_formats(client: openai.OpenAI, options: dict[str, Any], kind: str) -> None:
    answer = client.images.edit(image=PNG, prompt="x", **options)
    assert Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json))).format == kind


@pytest.mark.parametrize(
    ("compression", "asked", "levels"),
    [({}, b"jpeg", None), ({"output_compression": 100}, b"raw", {1}), ({"output_compression": 99}, b"raw", {1, 2})],
)
def test_the_quality_of_jpeg_is_as_asked(
    client: openai.OpenAI, triton: FakeTriton, compression: dict[str, Any], asked: bytes, levels: set[int] | None
) -> None:
    answer = client.images.edit(image=PNG, prompt="x", output_format="jpeg", **compression)
    content = base64.b64decode(answer.data[0].b64_json)
    assert element(tensors(triton.requests[0])["response_format"]) == asked
    if levels is None:
        assert content == JPEG
    else:
        made = Image.open(io.BytesIO(content))
        assert {one for table in made.quantization.values() for one in table} <= levels
        assert JpegImagePlugin.get_sampling(made) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quality": "best"}, "quality: only auto, low, medium, high, standard or hd is served."),
        ({"background": "transparent"}, "background: only auto or opaque is served."),
        ({"response_format": "url"}, "response_format: only b64_json is served."),
        ({"output_format": "png", "output_compression": 50}, "output_compression: only 100 is served with png."),
        ({"output_format": "gif"}, "output_format: only png, jpeg or webp is served."),
        ({"input_fidelity": "most"}, "input_fidelity: only high or low is served."),
        ({"extra_body": {"strength": "1"}}, "strength: is not served."),
    ],
)
def test_what_is_not_served_is_400(
    client: openai.OpenAI, triton: FakeTriton, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=PNG, prompt="x", **options)
    assert caught.value.code == "unsupported_parameter"
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param == message.partition(":")[0]
    assert caught.value.body["message"] == message
    assert not triton.requests


@pytest.mark.parametrize("name", ["<script>", "a b", "9lives", "x" * 40, "눈", "/etc/passwd", "mask[0]", "a\x00"])
def test_a_name_that_is_none_is_not_repeated(gateway: Gateway, name: str) -> None:
    answer = post(gateway, content=_form(*GOOD, _part(name.encode(), b"1")), headers=FORM)
    assert failure(answer) == (400, "unsupported_parameter")
    assert answer.json()["error"]["param"] is None
    assert answer.json()["detail"] == KINDS["unsupported_parameter"].message


def test_empty_values_are_none(gateway: Gateway, triton: FakeTriton) -> None:
    names = [*ImageEditForm.model_fields, "mask", "negative_prompt", "a b"]
    given = dict.fromkeys(names, "") | {"prompt": "x"}
    assert post(gateway, files={"image": PNG}, data=given).status_code == 200
    assert failure(post(gateway, files={"image": PNG}, data={"prompt": ""})) == (422, "prompt_invalid")


@pytest.mark.parametrize(("value", "message"), [(b"1", "seed: is there twice."), (b"\xff", "seed: is not UTF-8.")])
def test_a_broken_field_is_named(gateway: Gateway, value: bytes, message: str) -> None:
    answer = post(gateway, content=_form(*GOOD, *[_part(b"seed", value)] * 2), headers=FORM)
    assert failure(answer) == (400, "body_unreadable")
    assert (answer.json()["error"]["param"], answer.json()["detail"]) == ("seed", message)


def test_errors_are_its_own(client: openai.OpenAI, triton: FakeTriton) -> None:
    import grpc

    with pytest.raises(openai.UnprocessableEntityError) as unprocessable:
        client.images.edit(image=PNG, prompt="x", extra_body={"num_inference_steps": 51})
    assert (unprocessable.value.code, unprocessable.value.param) == ("parameter_invalid", "num_inference_steps")
    with pytest.raises(openai.UnprocessableEntityError):
        client.images.edit(image=b"GIF89a", prompt="x")
    triton.behave = failing(grpc.StatusCode.UNAVAILABLE, "tritouch:queue_full")
    with pytest.raises(openai.RateLimitError) as limited:
        client.images.edit(image=PNG, prompt="x")
    assert limited.value.code == "queue_full"


def test_a_failed_edit_is_not_sent_again(gateway: Gateway, triton: FakeTriton) -> None:
    import grpc

    triton.behave = failing(grpc.StatusCode.INTERNAL, "")
    with (
        openai.OpenAI(api_key="k", base_url=gateway.url + "/v1") as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.images.edit(image=PNG, prompt="x")
    assert len(triton.requests) == 1


def test_async_with_a_key(loop: Loop, triton: FakeTriton) -> None:
    async def edit(url: str, key: str) -> Any:
        async with openai.AsyncOpenAI(api_key=key, base_url=url + "/v1", max_retries=0) as client:
            return await client.images.edit(image=PNG, prompt="x")

    with serving(loop, triton, api_keys=("one", "two")) as gateway:
        assert asyncio.run(edit(gateway.url, "two")).data
        with pytest.raises(openai.AuthenticationError) as caught:
            asyncio.run(edit(gateway.url, "three"))
    assert caught.value.code == "unauthorized"


def test_models(gateway: Gateway, triton: FakeTriton) -> None:
    triton.offer["adapters"] = "sketch, oil"
    with openai.OpenAI(api_key="k", base_url=gateway.url + "/v1", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["base", "sketch", "oil"]
        assert client.models.retrieve("oil").id == "oil"
        with pytest.raises(openai.NotFoundError, match="There is no such model"):
            client.models.retrieve("ink")
    assert post(gateway, files={"image": PNG}, data={"prompt": "x", "model": "base"}).status_code == 200
    assert element(tensors(triton.requests[0])["model"]) == b""


@pytest.mark.parametrize("missing", ["image", "prompt"])
def test_what_is_required(gateway: Gateway, missing: str) -> None:
    given = {"files": {"image": PNG}, "data": {"prompt": "x"}}
    del given["files" if missing == "image" else "data"]
    given.setdefault("files", {"image[]": b""} if missing == "prompt" else {})
    if missing == "image":
        given = {"files": {"prompt": (None, "x")}}
    answer = post(gateway, **given)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == missing


BOUNDARY = "----b"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def _form(*parts: bytes, end: bytes = b"------b--\r\n") -> bytes:
    return b"".join(b"------b\r\n" + part for part in parts) + end


def _part(name: bytes, content: bytes, extra: bytes = b"") -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"' + extra + b"\r\n\r\n" + content + b"\r\n"


GOOD = (_part(b"image", PNG, b'; filename="a.png"\r\nContent-Type: application/octet-stream'), _part(b"prompt", b"x"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        _form(*GOOD)[:-20],
        _form(*GOOD, end=b""),
        _form(*GOOD, end=b"------other--"),
        _form(*GOOD).replace(b"\r\n", b"\n"),
        _form(*GOOD, _part(b"prompt", b"y")),
        _form(*GOOD, *[_part(b"seed", b"1")] * 2),
        _form(*GOOD, *[_part(b"image", PNG)] * 300),
        _form(GOOD[0], _part(b"prompt", b"\xff\xfe")),
        _form(*GOOD, b"X: y\r\n\r\nno disposition\r\n"),
        _form(*GOOD, b'Content-Disposition: attachment; name="seed"\r\n\r\n1\r\n'),
        _form(*GOOD, b"Content-Disposition: form-data\r\n\r\n1\r\n"),
        _form(*GOOD, _part(b"n" * 500, b"1")),
        _form(*GOOD, _part(b"seed", b"1", b"\r\nContent-Transfer-Encoding: base64")),
        _form(*GOOD, b"X: " + b"y" * 100_000 + b"\r\n\r\n1\r\n"),
        _form(*GOOD, b"X: y\r\n" * 1000 + b"\r\n1\r\n"),
        _form(*GOOD) + b"trailing" * 3,
    ],
)
def test_broken_forms_are_400(gateway: Gateway, triton: FakeTriton, content: bytes) -> None:
    answer = post(gateway, content=content, headers=FORM)
    if content.endswith(b"trailing"):
        assert answer.status_code == 200
    else:
        assert failure(answer) == (400, "body_unreadable")
        assert not triton.requests


@pytest.mark.parametrize("options", ["", "; boundary=", "; boundary=" + "x" * 500, "; boundary=\x7f", "; x=y; ="])
def test_broken_boundaries_are_400(gateway: Gateway, options: str) -> None:
    answer = post(gateway, content=_form(*GOOD), headers={"content-type": "multipart/form-data" + options})
    assert failure(answer) == (400, "body_unreadable")


@pytest.mark.parametrize(
    "value",
    [
        *("0", "51", "2.5", "true", " ", "\N{ARABIC-INDIC DIGIT SEVEN}", "1e1", "0x7", "9" * 5000),
        *("7.0", " 7 ", "7\n", "+7", "1_0", "07", "None", "null"),
    ],
)
def test_numbers_in_a_form_are_as_strict(gateway: Gateway, triton: FakeTriton, value: str) -> None:
    answer = post(gateway, files={"image": PNG}, data={"prompt": "x", "num_inference_steps": value})
    assert failure(answer) == (422, "parameter_invalid")


@pytest.mark.parametrize("name", ["seed", "output_compression"])
@pytest.mark.parametrize("value", ["7.0", " 7 ", "+7", "1_0", "07", " ", "None", "null"])
def test_other_integers_in_a_form_are_as_strict(gateway: Gateway, name: str, value: str) -> None:
    answer = post(gateway, files={"image": PNG}, data={"prompt": "x", "output_format": "jpeg", name: value})
    assert failure(answer) == (422, "parameter_invalid")


@pytest.mark.parametrize(
    "value",
    [
        *("nan", "inf", "-1", "1e999", "x", " ", "1_0", " 7 ", "+7", "7.", ".5", "07", "1e", "0x7"),
        *("7." + "5" * 100, "7" * 101, "7e" + "0" * 10),
    ],
)
def test_guidance_in_a_form_is_as_strict(gateway: Gateway, value: str) -> None:
    answer = post(gateway, files={"image": PNG}, data={"prompt": "x", "guidance_scale": value})
    assert failure(answer) == (422, "parameter_invalid")


@pytest.mark.parametrize("value", ["0", "7", "7.5", "75e-1", "0.75E+1"])
def test_guidance_in_a_form_is_as_in_json(gateway: Gateway, triton: FakeTriton, value: str) -> None:
    assert post(gateway, files={"image": PNG}, data={"prompt": "x", "guidance_scale": value}).status_code == 200
    assert struct.unpack("<f", tensors(triton.requests[0])["guidance_scale"]) == (float(value),)


def test_who_the_user_is_does_not_matter(gateway: Gateway, triton: FakeTriton) -> None:
    assert post(gateway, files={"image": PNG}, data={"prompt": "x", "user": "u" * 1000}).status_code == 200
