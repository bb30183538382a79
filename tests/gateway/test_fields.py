"""What callers of today send beyond a picture and a prompt, in every dialect: n, size, masks, priorities."""

import base64
import io
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from PIL import Image

from tests.gateway import fake_triton
from tests.gateway.asking import GENERATIONS, PNG, PNG64, body, failure, picture, post, until
from tests.gateway.fake_triton import HEIGHT, JPEG, RAW, WIDTH, FakeTriton, element, failing, number, tensors, when
from tests.gateway.serving import Gateway, Loop, serving

OPENAI = {"images": [{"image_url": PNG64}, {"image_url": "data:image/png;base64," + PNG64}], "prompt": "x"}
JSON = {"friendli": body(), "openai": OPENAI}
ASKED = {"n": 2, "size": "640x480", "negative_prompt": "rain", "seed": 2**64 - 1, "cache": "balanced"}


def asked(dialect: str, **fields: Any) -> dict[str, Any]:
    """A request with these fields and a mask, as it is written in each dialect."""
    if dialect == "form":
        files = {"image": ("a.png", PNG), "mask": ("mask.png", PNG)}
        return {"files": files, "data": {"prompt": "x"} | {name: str(value) for name, value in fields.items()}}
    mask = {"image": PNG64} if dialect == "friendli" else {"image_url": PNG64}
    return {"json": JSON[dialect] | fields | {"mask": mask}}


@pytest.mark.parametrize("dialect", ["form", "friendli", "openai"])
def test_every_dialect_has_the_same_fields(gateway: Gateway, triton: FakeTriton, dialect: str) -> None:
    answer = post(gateway, **asked(dialect, **ASKED))
    assert answer.status_code == 200, answer.text
    (request,) = triton.requests
    sent = tensors(request)
    assert struct.unpack("<2i", sent["size"]) == (640, 480)
    assert (element(sent["mask"]), element(sent["negative_prompt"])) == (PNG, b"rain")
    assert element(sent["cache"]) == b"balanced"
    assert number(request, "n") == 2
    assert "low_priority" not in sent
    content = answer.json()
    made = content["images" if dialect == "friendli" else "data"]
    assert [one["seed"] for one in made] == [2**64 - 1, 0]
    assert content["seed"] == 2**64 - 1
    assert [one["foretold_steps"] for one in made] == [fake_triton.FORETOLD, fake_triton.FORETOLD + 1]
    assert (content["cache"], content["foretold_steps"]) == (fake_triton.CACHE, 2 * fake_triton.FORETOLD + 1)
    if dialect == "friendli":
        assert [base64.b64decode(one["image"]) for one in made] == [JPEG, JPEG]
        assert content["image"] == made[0]["image"]
    else:
        for one in made:
            image = Image.open(io.BytesIO(base64.b64decode(one["b64_json"])))
            assert (image.format, image.size, image.tobytes()) == ("PNG", (WIDTH, HEIGHT), RAW)
        assert content["usage"]["output_tokens"] == 2 * 16


@pytest.mark.parametrize("mask", [PNG64, {"image": PNG64}, "data:image/png;base64," + PNG64])
def test_forms_of_a_mask(gateway: Gateway, triton: FakeTriton, mask: object) -> None:
    assert post(gateway, json=body(mask=mask)).status_code == 200
    assert element(tensors(triton.requests[0])["mask"]) == PNG


@pytest.mark.parametrize("cache", ["on", "Balanced", 1, True, ["off"]])
@pytest.mark.parametrize("dialect", ["form", "friendli", "openai"])
def test_another_way_to_cache_steps_is_one_clear_line(
    gateway: Gateway, triton: FakeTriton, dialect: str, cache: object
) -> None:
    answer = post(gateway, **asked(dialect, cache=cache))
    assert failure(answer) == (422, "parameter_invalid")
    assert answer.json()["error"]["param"] == "cache"
    assert answer.json()["detail"] == "cache: only off or balanced is served."
    assert not triton.requests


@pytest.mark.parametrize(
    "name", ["n", "size", "mask", "negative_prompt", "cache", "seed", "model", "stream", "partial_images"]
)
@pytest.mark.parametrize("nothing", [None, ""])
def test_null_and_empty_are_as_good_as_left_out_everywhere(
    gateway: Gateway, triton: FakeTriton, name: str, nothing: object
) -> None:
    for request in JSON.values():
        assert post(gateway, json=request | {name: nothing}).status_code == 200
    assert post(gateway, files={"image": PNG}, data={"prompt": "x", name: ""}).status_code == 200
    assert post(gateway, GENERATIONS, json={"prompt": "x", **({name: nothing} if name != "mask" else {})}).is_success
    assert not {"n", "mask", "negative_prompt", "cache"} & {name for one in triton.requests for name in tensors(one)}


NO_PNG = "The mask cannot be used. The mask is not a PNG with an alpha channel."
NEITHER = "is neither an http or https URL nor base64, bare or in a data URL."


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"files": {"image": PNG, "mask": picture("JPEG")}, "data": {"prompt": "x"}}, 400, NO_PNG),
        ({"files": {"image": PNG, "mask": ("empty.png", b"")}, "data": {"prompt": "x"}}, 400, NO_PNG),
        ({"json": body(mask=base64.b64encode(picture("WEBP")).decode())}, 400, NO_PNG),
        ({"json": body(mask="@/mask.png")}, 400, f"mask: {NEITHER}"),
        ({"json": body(mask=PNG64 + "\u00e9")}, 400, f"mask: {NEITHER}"),
        ({"json": body(mask="ftp://example.com/mask.png")}, 422, "An image could not be had from its URL."),
        ({"json": body(mask=7)}, 422, None),
        ({"json": OPENAI | {"mask": PNG64}}, 422, None),
        ({"json": OPENAI | {"mask": {"file_id": "f"}}}, 400, None),
        (
            {"files": [("image", PNG), ("mask", PNG), ("mask", PNG)], "data": {"prompt": "x"}},
            400,
            "mask: is there twice.",
        ),
    ],
)
def test_what_is_no_mask_is_told(
    gateway: Gateway, triton: FakeTriton, request_: Any, status: int, message: str | None
) -> None:
    answer = post(gateway, **request_)
    assert failure(answer)[0] == status
    assert answer.json()["error"]["param"] == "mask"
    if message:
        assert answer.json()["detail"] == message
    assert not triton.requests


def test_masks_count_in_the_budget_of_a_requests_images(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, max_request_image_bytes=len(PNG) + 1) as gateway:
        assert post(gateway).status_code == 200
        answer = post(gateway, json=body(mask=PNG64))
        assert failure(answer) == (422, "image_too_large")
        assert answer.json()["error"]["param"] == "mask"
        assert until(lambda: gateway.app.state.edits.memory.held == 0)


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"images": [{"file_id": "file-1"}]}, 400, "images: no files are kept here"),
        ({"images": []}, 422, "images: give a list of 1 to 16"),
        ({"images": [{"image_url": PNG64}] * 17}, 422, "images: give a list of 1 to 16"),
        ({"images": [{}]}, 422, "images: give a list of 1 to 16"),
        ({"images": PNG64}, 422, "images: give a list of 1 to 16"),
        ({"images": [{"image_url": PNG64}] * 9}, 422, "images: This server takes at most 8 images."),
        ({"images": [{"image_url": PNG64, "strength": 1}]}, 400, "strength: is not served"),
        ({"image": {"image": PNG64}}, 422, "images: not both"),
        ({"background": "transparent"}, 400, "background: only auto or opaque"),
        ({"response_format": "url"}, 400, "response_format: only b64_json"),
        ({"strength": 0.5}, 400, "strength: is not served"),
        ({"partial_images": 2}, 422, "partial_images: goes with stream=true alone"),
    ],
)
def test_openais_json_is_refused_by_name(
    gateway: Gateway, triton: FakeTriton, fields: dict[str, Any], status: int, message: str
) -> None:
    answer = post(gateway, json=OPENAI | fields)
    assert failure(answer)[0] == status
    param, _, said = message.partition(": ")
    assert answer.json()["error"]["param"] == param
    assert said in answer.json()["detail"]
    assert not triton.requests


def test_neither_image_nor_images_names_image(gateway: Gateway) -> None:
    answer = post(gateway, json={"prompt": "x", "images": None})
    assert (failure(answer)[0], answer.json()["error"]["param"]) == (422, "image")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("size_unavailable", "the answer may have at most 262144 pixels"),
        ("size_unavailable", "the longer side may be at most 4 times the shorter one"),
        ("size_unavailable", "the longer side may be at most 15.7 times the shorter one"),
        ("size_unavailable", "each side must be 64 to 1024 pixels"),
        ("size_unavailable", "a jpeg has at most 65500 pixels a side"),
        ("mask_invalid", "the mask is not a PNG with an alpha channel"),
        ("mask_invalid", "the mask must be as large as the first image: 640 x 480"),
        ("mask_invalid", "the mask has no transparent pixel: nothing would be edited"),
        ("mask_invalid", "the mask must be as large as the first image: 10001 x 6000 or 5001 x 3000"),
        ("mask_invalid", "the mask is broken"),
        ("mask_invalid", "the mask has more pixels than a PNG may have: give one half as wide and high"),
        ("mask_invalid", "a mask needs an image"),
        ("mask_invalid", "with a mask, size must have the picture's aspect"),
    ],
)
def test_what_the_model_says_of_sizes_and_masks_is_told(
    gateway: Gateway, triton: FakeTriton, code: str, said: str
) -> None:
    triton.behave = failing(grpc.StatusCode.INVALID_ARGUMENT, f"in 'x', tritouch:{code} {said}; /secret 7")
    answer = post(gateway)
    assert failure(answer) == (422 if code == "size_unavailable" else 400, code)
    assert answer.json()["error"]["param"] == code.partition("_")[0]
    assert answer.json()["detail"].endswith(f" {said[0].upper()}{said[1:]}.")


@pytest.mark.parametrize(
    ("said", "param", "told"),
    [
        ("too_many_images this model edits at most one image", "image", " This model edits at most one image."),
        ("too_many_images this model edits at most 4 images", "image", " This model edits at most 4 images."),
        (
            "parameter_invalid negative_prompt: needs guidance_scale above 1",
            "negative_prompt",
            "negative_prompt: needs guidance_scale above 1.",
        ),
        (
            "parameter_invalid negative_prompt: needs guidance_scale above 1 and image_guidance_scale of at least 1",
            "negative_prompt",
            "negative_prompt: needs guidance_scale above 1 and image_guidance_scale of at least 1.",
        ),
        ("parameter_invalid /etc: needs guidance_scale", None, "A parameter has a value that cannot be used."),
        (
            "edit_too_large the edit needs 3 rows and 900 tokens a call, and a call holds 2 rows and 600 tokens",
            None,
            " The edit needs 3 rows and 900 tokens a call, and a call holds 2 rows and 600 tokens.",
        ),
        (
            "edit_too_large 9 pictures are asked for, and 8 can be made",
            None,
            " 9 pictures are asked for, and 8 can be made.",
        ),
    ],
)
def test_what_else_the_model_says_of_a_field_is_told(
    gateway: Gateway, triton: FakeTriton, said: str, param: str | None, told: str
) -> None:
    triton.behave = failing(grpc.StatusCode.INVALID_ARGUMENT, f"in 'x', tritouch:{said}; /secret 7")
    answer = post(gateway)
    assert failure(answer) == (422, said.partition(" ")[0])
    assert answer.json()["error"]["param"] == param
    assert answer.json()["detail"].endswith(told)


@pytest.mark.parametrize("dialect", ["form", "friendli", "openai"])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n", "two", "must be a whole number"),
        ("n", 11, "must be at most 10"),
        ("seed", -1, "must be at least 0"),
        ("guidance_scale", "much", "must be a number"),
        ("stream", "perhaps", "must be true or false"),
        ("negative_prompt", "x" * 10_001, "must have at most 10000 characters"),
    ],
)
def test_what_a_field_must_be_is_told_alike_in_every_dialect(
    gateway: Gateway, dialect: str, field: str, value: object, message: str
) -> None:
    answer = post(gateway, **asked(dialect, **{field: value}))
    assert (answer.status_code, answer.json()["detail"]) == (422, f"{field}: {message}.")


def test_a_model_without_negative_prompts_says_so(gateway: Gateway, triton: FakeTriton) -> None:
    triton.behave = failing(grpc.StatusCode.INVALID_ARGUMENT, "tritouch:negative_prompt_unavailable not here")
    answer = post(gateway, json=body(negative_prompt="rain"))
    assert failure(answer) == (400, "negative_prompt_unavailable")
    assert answer.json()["error"]["param"] == "negative_prompt"


@pytest.mark.parametrize(("given", "low"), [("low", True), ("Low", True), ("normal", False), ("", False)])
def test_background_work_says_so(gateway: Gateway, triton: FakeTriton, given: str, low: bool) -> None:
    assert post(gateway, headers={"X-Priority": given}).status_code == 200
    assert (tensors(triton.requests[0]).get("low_priority") == b"\x01") == low


def test_an_unknown_priority_is_refused(gateway: Gateway, triton: FakeTriton) -> None:
    answer = post(gateway, headers={"X-Priority": "sesame"})
    assert failure(answer) == (422, "parameter_invalid")
    assert answer.json()["detail"] == "X-Priority: only low or normal is served."


def test_each_of_n_counts_as_an_edit(loop: Loop, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.behave = when(released)
    with serving(loop, triton, max_edits=4) as gateway, ThreadPoolExecutor() as pool:
        running = pool.submit(post, gateway, json=body(n=3))
        assert until(lambda: gateway.app.state.edits.running.inside == 3)
        assert failure(post(gateway, json=body(n=2))) == (429, "queue_full")
        released.set()
        assert running.result().status_code == 200
        answer = post(gateway, json=body(n=5))
        assert (failure(answer)[0], answer.json()["detail"]) == (422, "n: may be at most 4 here.")


def test_one_key_has_a_share_of_all_edits(loop: Loop, triton: FakeTriton) -> None:
    released = threading.Event()
    triton.behave = when(released)
    one, other = ({"authorization": f"Bearer {key}"} for key in ("one", "other"))
    settings = {"max_edits": 3, "max_edits_per_key": 2, "api_keys": ("one", "other")}
    with serving(loop, triton, **settings) as gateway, ThreadPoolExecutor() as pool:
        running = [pool.submit(post, gateway, json=body(n=2), headers=one)]
        assert until(lambda: gateway.app.state.edits.running.inside == 2)
        answer = post(gateway, headers=one)
        assert failure(answer) == (429, "queue_full")
        assert answer.json()["detail"].startswith("You have as many edits under way")
        assert answer.headers["retry-after"]
        running.append(pool.submit(post, gateway, headers=other))
        assert until(lambda: gateway.app.state.edits.running.inside == 3)
        released.set()
        assert [done.result().status_code for done in running] == [200, 200]
