"""What the repository offers, and what callers are told of it: models, steps, limits."""

import json

import grpc
import pytest

from tests.gateway.asking import body, failure, get, post
from tests.gateway.fake_triton import (
    OFFER,
    USED,
    FakeTriton,
    failing,
)
from tests.gateway.serving import Gateway


def test_readyz_follows_the_model(gateway: Gateway, triton: FakeTriton) -> None:
    assert get(gateway, "/readyz").status_code == 200
    triton.is_ready = False
    assert get(gateway, "/readyz").status_code == 503


@pytest.mark.parametrize(
    ("model", "said", "told"),
    [
        ("oil+no-such", "no adapter is called 'no-such'; adapters: oil", " No adapter is called 'no-such'."),
        ("no-such", "no adapter is called 'a b'; adapters: oil", ""),
        ("../etc", "", ""),
        ("ink+../etc", "", " Names have letters, digits, dots, - and _ alone: look in part 2 of 2."),
    ],
)
def test_an_unknown_model_is_told_the_known_ones(
    gateway: Gateway, triton: FakeTriton, model: str, said: str, told: str
) -> None:
    triton.offer["adapters"] = "sketch,oil"
    triton.behave = failing(grpc.StatusCode.INVALID_ARGUMENT, f"tritouch:unknown_model there is no such model: {said}")
    answer = post(gateway, json=body(model=model))
    assert failure(answer) == (422, "unknown_model")
    assert answer.json()["detail"] == f"There is no such model.{told} There are: base, sketch, oil."


def test_a_number_of_steps_that_cannot_be_made_is_told_the_nearest(gateway: Gateway, triton: FakeTriton) -> None:
    said = "tritouch:steps_unavailable this model's sampler cannot make 3 steps; the nearest number that works is 4"
    triton.behave = failing(grpc.StatusCode.INVALID_ARGUMENT, said)
    answer = post(gateway, json=body(num_inference_steps=3))
    assert failure(answer) == (422, "steps_unavailable")
    assert answer.json()["error"]["param"] == "num_inference_steps"
    assert answer.json()["detail"].endswith("The nearest number that works is 4.")


@pytest.mark.parametrize(
    "said",
    [
        "an image may have at most 52428800 bytes",
        "an image of this kind may have at most 50331648 pixels",
        "an image's longer side may have at most 65535 pixels",
        "an image's longer side may be at most 1000 times its shorter one",
    ],
)
def test_an_image_that_is_too_large_is_told_the_limit(gateway: Gateway, triton: FakeTriton, said: str) -> None:
    triton.behave = failing(grpc.StatusCode.INVALID_ARGUMENT, f"in 'preprocess', tritouch:image_too_large {said}; x")
    answer = post(gateway)
    assert failure(answer) == (422, "image_too_large")
    assert answer.json()["detail"].endswith(f"takes. A{said[1:]}.")


def test_models_tell_the_defaults_of_an_edit(gateway: Gateway, triton: FakeTriton) -> None:
    triton.offer["adapters"] = "sketch"
    base, sketch = get(gateway, "/v1/models").json()["data"]
    assert base["parent"] is None
    assert sketch == base | {"id": "sketch", "parent": "base"}
    assert (base["id"], base["steps"], base["max_images"]) == ("base", [4, 8, 12], 2)
    assert {name: base[name] for name in USED} == USED


def test_models_tell_an_adapters_own_defaults(gateway: Gateway, triton: FakeTriton) -> None:
    own = {"sketch": {"num_inference_steps": 4.0, "shift": 3.0}, "oil": {"guidance_scale": 2.5}}
    triton.offer |= {"adapters": "sketch,oil,ink", "adapter_defaults": json.dumps(own)}
    base, sketch, oil, ink = get(gateway, "/v1/models").json()["data"]
    assert sketch == base | {"id": "sketch", "parent": "base", "num_inference_steps": 4}
    assert oil == base | {"id": "oil", "parent": "base", "guidance_scale": 2.5}
    assert ink == base | {"id": "ink", "parent": "base"}


def test_models_tell_what_may_be_asked_for(gateway: Gateway, triton: FakeTriton) -> None:
    (base,) = get(gateway, "/v1/models").json()["data"]
    assert (base["max_pixels"], base["negative_prompt"], base["masks"], base["cache"]) == (262144, True, True, "off")
    for name in ("max_pixels", "negative_prompt", "cache"):  # exported before they were told
        del triton.offer[name]
    (base,) = get(gateway, "/v1/models").json()["data"]
    assert (base["max_pixels"], base["negative_prompt"], base["masks"], base["cache"]) == (None, False, True, None)


@pytest.mark.parametrize("missing", sorted(OFFER.keys() - {"max_pixels", "negative_prompt", "cache"}))
def test_a_repository_that_says_no_defaults_is_not_one_of_ours(
    gateway: Gateway, triton: FakeTriton, missing: str
) -> None:
    del triton.offer[missing]
    assert get(gateway, "/v1/models").status_code == 503
