"""A JSON edit, from the HTTP body to Triton's tensors and back."""

import base64
import struct
import tracemalloc

import httpx
import pytest

from gateway import adapters
from gateway.errors import PublicError
from gateway.unserved import NEUTRAL
from tests.gateway.asking import EDITS, PNG, PNG64, body, failure, picture, post
from tests.gateway.fake_triton import HEIGHT, JPEG, RAW, USED, WIDTH, FakeTriton, element, tensors
from tests.gateway.serving import Gateway


def test_everything_left_out_takes_its_default(gateway: Gateway, triton: FakeTriton) -> None:
    answer = post(gateway)
    assert answer.status_code == 200
    sent = tensors(triton.requests[0])
    assert {name: sent[name] for name in sent if name not in ("image", "seed")} == {
        "prompt": struct.pack("<I", 12) + b"make it snow",
        "num_inference_steps": struct.pack("<i", 0),
        "guidance_scale": struct.pack("<f", 0),
        "image_guidance_scale": struct.pack("<f", 0),
        "model": struct.pack("<I", 0),
        "response_format": struct.pack("<I", 4) + b"jpeg",
        "size": struct.pack("<2i", 0, 0),
    }
    assert sent["image"] == struct.pack("<I", len(PNG)) + PNG
    content = answer.json()
    assert base64.b64decode(content["image"]) == JPEG
    assert (content["width"], content["height"]) == (WIDTH, HEIGHT)
    assert {name: content[name] for name in USED} == USED, "the answer says what the edit was done with"
    assert struct.pack("<Q", content["seed"]) == sent["seed"]
    assert 0 <= content["seed"] < 2**53


def test_every_field_reaches_triton(gateway: Gateway, triton: FakeTriton) -> None:
    fields = {
        "num_inference_steps": 3,
        "guidance_scale": 7.5,
        "image_guidance_scale": 2,
        "seed": 2**64 - 1,
        "model": "adapter-1",
        "response_format": "raw",
        "prompt": "눈",
    }
    answer = post(gateway, json=body(**fields)).json()
    sent = tensors(triton.requests[0])
    assert base64.b64decode(answer["image"]) == RAW
    assert answer["seed"] == 2**64 - 1
    assert struct.unpack("<i", sent["num_inference_steps"]) == (3,)
    assert struct.unpack("<f", sent["guidance_scale"]) == (7.5,)
    assert struct.unpack("<f", sent["image_guidance_scale"]) == (2,)
    assert struct.unpack("<Q", sent["seed"]) == (2**64 - 1,)
    assert element(sent["prompt"]).decode() == "눈"
    assert element(sent["model"]) == b"adapter-1"


def test_a_scale_too_small_for_fp32_is_still_off(gateway: Gateway, triton: FakeTriton) -> None:
    """It would become 0 on its way, which stands for the repository's own default."""
    assert post(gateway, json=body(guidance_scale=1e-300, image_guidance_scale=5e-324)).status_code == 200
    sent = tensors(triton.requests[0])
    for name in ("guidance_scale", "image_guidance_scale"):
        assert 0 < struct.unpack("<f", sent[name])[0] < 1e-37


def test_two_edits_without_a_seed_draw_two(gateway: Gateway, triton: FakeTriton) -> None:
    assert post(gateway).json()["seed"] != post(gateway).json()["seed"]


@pytest.mark.parametrize("model", ["oil", "oil:0.7+ink", "a:-10+b:10.0+c:0+d", "x" * 64])
def test_adapters_go_to_triton_as_they_are_named(gateway: Gateway, triton: FakeTriton, model: str) -> None:
    assert post(gateway, json=body(model=model)).status_code == 200
    assert element(tensors(triton.requests[0])["model"]) == model.encode()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("a+b+c+d+e", "model: at most 4 adapters in one request."),
        ("+" * 9, "model: at most 4 adapters in one request."),
        ("oil+ink+oil:2", "model: oil is there twice; give it one scale instead."),
        ("ink+oil:", "model: the scale of oil must be a number from -10 to 10."),
        ("oil:10.01", "model: the scale of oil must be a number from -10 to 10."),
        ("oil:1e1", "model: the scale of oil must be a number from -10 to 10."),
        ("oil:nan", "model: the scale of oil must be a number from -10 to 10."),
        ("oil:1:2", "model: the scale of oil must be a number from -10 to 10."),
        ("oil+", "model: the name of an adapter is missing in part 2 of 2."),
        (":0.5", "model: the name of an adapter is missing."),
        ("oil+base", "model: base is the model without adapters, and stands alone."),
        ("base:0.5", "model: base is the model without adapters, and stands alone."),
    ],
)
def test_a_wrong_part_of_a_model_is_told_by_name(
    gateway: Gateway, triton: FakeTriton, model: str, message: str
) -> None:
    answer = post(gateway, json=body(model=model))
    assert (answer.status_code, answer.json()["detail"]) == (422, message)
    assert answer.json()["error"]["param"] == "model"
    assert not triton.requests


def test_a_body_of_adapters_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        for model in ("+" * 1_000_000, "a/" + "+:" * 500_000):
            with pytest.raises(PublicError, match="parameter_invalid"):
                adapters.check(model)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_nulls_are_as_good_as_left_out(gateway: Gateway, triton: FakeTriton) -> None:
    names = ("model", "seed", "response_format", "num_inference_steps", "guidance_scale", "image_guidance_scale")
    assert post(gateway, json=body(**dict.fromkeys([*names, *NEUTRAL, "anything"]))).status_code == 200
    sent = tensors(triton.requests[0])
    assert element(sent["response_format"]) == b"jpeg"
    assert sent["num_inference_steps"] + sent["guidance_scale"] + sent["image_guidance_scale"] == bytes(12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strength": 0.5}, "strength: is not served."),
        ({"lora": "oil"}, "lora: is not served."),
        ({"loras": [{"path": "oil"}]}, "loras: is not served."),
        ({"width": 512}, "width: is not served."),
        ({"background": "transparent"}, "background: only auto or opaque is served."),
        ({"image": {"image": PNG64, "mask": PNG64}}, "mask: is not served."),
        ({"image": [{"image": PNG64}, {"image": PNG64, "strength": 1}]}, "strength: is not served."),
    ],
)
def test_what_would_change_the_picture_and_is_not_served_is_refused_by_name(
    gateway: Gateway, triton: FakeTriton, fields: dict[str, object], message: str
) -> None:
    answer = post(gateway, json=body(**fields))
    assert failure(answer) == (400, "unsupported_parameter")
    assert (answer.json()["error"]["param"], answer.json()["detail"]) == (message.partition(":")[0], message)
    assert not triton.requests


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "size": "auto", "stream": False, "partial_images": 0, "quality": "auto", "background": "opaque"},
        {"negative_prompt": " ", "mask": "", "loras": [], "lora": {}, "output_format": "jpeg"},
        {"user": "u", "metadata": {"mask": 1}, "X": 2, "moderation": "low"},
        {"image": {"image": PNG64, "detail": "high", "mask": None}},
    ],
)
def test_what_asks_for_nothing_else_is_ignored(gateway: Gateway, triton: FakeTriton, fields: dict[str, object]) -> None:
    assert post(gateway, json=body(**fields)).status_code == 200


def test_a_value_that_is_not_served_is_told_those_that_are(gateway: Gateway) -> None:
    answer = post(gateway, json=body(response_format="b64_json"))
    assert failure(answer) == (422, "parameter_invalid")
    assert answer.json()["detail"] == "response_format: only raw or jpeg is served."


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "DATA:;charset=x;base64,"])
def test_forms_of_an_image(gateway: Gateway, triton: FakeTriton, kind: str, prefix: str) -> None:
    given = picture(kind)
    text = prefix + base64.b64encode(given).decode()
    assert post(gateway, json=body(image=[{"image": text}, {"image": PNG64}])).status_code == 200
    sent = triton.requests[0]
    assert list(sent.inputs[0].shape) == [2]
    assert tensors(sent)["image"] == b"".join(struct.pack("<I", len(one)) + one for one in (given, PNG))


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"n": 0}, "n", "parameter_invalid"),
        ({"n": 11}, "n", "parameter_invalid"),
        ({"n": True}, "n", "parameter_invalid"),
        ({"n": "1"}, "n", "parameter_invalid"),
        ({"size": 7}, "size", "parameter_invalid"),
        ({"size": "1024"}, "size", "parameter_invalid"),
        ({"stream": 0}, "stream", "parameter_invalid"),
        ({"stream": "true"}, "stream", "parameter_invalid"),
        ({"stream": True, "partial_images": 4}, "partial_images", "parameter_invalid"),
        ({"partial_images": 1}, "partial_images", "parameter_invalid"),
        ({"progress": True}, "progress", "parameter_invalid"),
        ({"negative_prompt": "a\0b"}, "negative_prompt", "prompt_invalid"),
        ({"negative_prompt": "x" * 10_001}, "negative_prompt", "prompt_invalid"),
        ({"mask": {}}, "mask", "parameter_invalid"),
        ({"mask": [PNG64]}, "mask", "parameter_invalid"),
        ({"num_inference_steps": 0}, "num_inference_steps", "parameter_invalid"),
        ({"num_inference_steps": 51}, "num_inference_steps", "parameter_invalid"),
        ({"num_inference_steps": True}, "num_inference_steps", "parameter_invalid"),
        ({"num_inference_steps": "7"}, "num_inference_steps", "parameter_invalid"),
        ({"num_inference_steps": 2.5}, "num_inference_steps", "parameter_invalid"),
        ({"guidance_scale": -0.1}, "guidance_scale", "parameter_invalid"),
        ({"guidance_scale": 101}, "guidance_scale", "parameter_invalid"),
        ({"guidance_scale": False}, "guidance_scale", "parameter_invalid"),
        ({"image_guidance_scale": "1"}, "image_guidance_scale", "parameter_invalid"),
        ({"seed": -1}, "seed", "parameter_invalid"),
        ({"seed": 2**64}, "seed", "parameter_invalid"),
        ({"seed": 10**300}, "seed", "parameter_invalid"),
        ({"response_format": "png"}, "response_format", "parameter_invalid"),
        ({"prompt": ""}, "prompt", "prompt_invalid"),
        ({"prompt": " \n"}, "prompt", "prompt_invalid"),
        ({"prompt": "a\0b"}, "prompt", "prompt_invalid"),
        ({"prompt": "x" * 10_001}, "prompt", "prompt_invalid"),
        ({"prompt": None}, "prompt", "prompt_invalid"),
        ({"model": "../../etc/passwd"}, "model", "unknown_model"),
        ({"model": 7}, "model", "parameter_invalid"),
        ({"image": []}, "image", "parameter_invalid"),
        ({"image": "@/path/to/file/image.png"}, "image", "parameter_invalid"),
        ({"image": {"image": "@/path/to/file/image.png"}}, "image", "image_unreadable"),
        ({"image": {"image": ""}}, "image", "image_unreadable"),
        ({"image": {"image": "data:image/png,raw"}}, "image", "image_unreadable"),
        ({"image": {"image": base64.b64encode(b"GIF89a").decode()}}, "image", "image_unreadable"),
        ({"image": {"image": PNG64 + "é"}}, "image", "image_unreadable"),
        ({"image": [{"image": PNG64}] * 9}, "image", "too_many_images"),
        ({"image": {"image": "ftp://example.com/cat.png"}}, "image", "image_url_unusable"),
    ],
)
def test_what_cannot_be_used_is_422(
    gateway: Gateway, triton: FakeTriton, fields: dict[str, object], param: str, code: str
) -> None:
    answer = post(gateway, json=body(**fields))
    assert failure(answer) == (422, code)
    assert answer.json()["error"]["param"] == param
    assert not triton.requests


@pytest.mark.parametrize("missing", ["image", "prompt"])
def test_what_is_required(gateway: Gateway, missing: str) -> None:
    fields = body()
    del fields[missing]
    answer = post(gateway, json=fields)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == missing


@pytest.mark.parametrize("content", [b"", b"{", b"nonsense", b'{"prompt": NaN}', b'{"a":1,"a":1}', b'"\\ud800"'])
def test_broken_json_is_400(gateway: Gateway, content: bytes) -> None:
    answer = post(gateway, content=content, headers={"content-type": "application/json"})
    assert failure(answer) == (400, "body_unreadable")


def test_other_content_types_are_415(gateway: Gateway) -> None:
    assert failure(post(gateway, content=b"{}", headers={"content-type": "text/plain"})) == (
        415,
        "unsupported_media_type",
    )


def test_other_paths_and_methods(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as client:
        assert failure(client.get("/nothing")) == (404, "not_found")
        answer = client.get(EDITS)
        assert failure(answer) == (405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"
