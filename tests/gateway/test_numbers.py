"""Whole numbers in JSON, which are so however they are written; and to the schema alike."""

import struct
from typing import Any

import pytest

from gateway.generation_schemas import ContainerImageGenerationBody, ImageGenerationBody
from gateway.openai_schemas import ImageEditBody
from gateway.schemas import ContainerImageEditBody
from tests.gateway.asking import EDITS, GENERATIONS, PNG64, body, failure, post
from tests.gateway.fake_triton import FakeTriton, number, tensors
from tests.gateway.serving import Gateway

OPENAI = {"prompt": "x", "images": [{"image_url": PNG64}]}
EVERY = [(EDITS, body()), (EDITS, OPENAI), (GENERATIONS, {"prompt": "x"}), (GENERATIONS, {"prompt": "x", "n": 1})]


@pytest.mark.parametrize(("path", "asked"), EVERY)
def test_a_number_without_a_fraction_is_whole(
    gateway: Gateway, triton: FakeTriton, path: str, asked: dict[str, Any]
) -> None:
    answer = post(gateway, path, json=asked | {"num_inference_steps": 20.0, "seed": 7.0})
    assert answer.status_code == 200, answer.text
    assert number(triton.requests[0], "num_inference_steps") == 20
    assert struct.unpack("<Q", tensors(triton.requests[0])["seed"]) == (7,)


@pytest.mark.parametrize("path", [EDITS, GENERATIONS])
def test_and_so_are_openais(gateway: Gateway, triton: FakeTriton, path: str) -> None:
    asked = OPENAI if path == EDITS else {"prompt": "x"}
    fields = {"output_format": "webp", "output_compression": 8e1, "n": 2.0, "partial_images": 1.0, "stream": True}
    assert post(gateway, path, json=asked | fields).status_code == 200
    assert (number(triton.requests[0], "n"), number(triton.requests[0], "partial_images")) == (2, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_inference_steps", 2.5),
        ("num_inference_steps", 51.0),
        ("num_inference_steps", "20"),
        ("num_inference_steps", True),
        ("seed", -1.0),
        ("seed", 2.0**53 + 2),
        ("seed", 2.0**64),
        ("seed", 1e300),
    ],
)
def test_others_are_not(gateway: Gateway, triton: FakeTriton, name: str, value: object) -> None:
    for path, asked in EVERY:
        assert failure(post(gateway, path, json=asked | {name: value})) == (422, "parameter_invalid")
    assert not triton.requests


@pytest.mark.parametrize(
    "model", [ContainerImageEditBody, ImageEditBody, ContainerImageGenerationBody, ImageGenerationBody]
)
def test_the_schema_has_them_as_integers_within_bounds(model: type[ContainerImageEditBody]) -> None:
    fields = model.model_json_schema()["properties"]
    steps, seed = (fields[name]["anyOf"][0] for name in ("num_inference_steps", "seed"))
    assert steps == {"type": "integer", "minimum": 1, "maximum": 50}
    assert seed == {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
