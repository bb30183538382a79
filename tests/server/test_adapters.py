"""Adapters through the served API: each, and several at once, against diffusers, all of them in one batch."""

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ADAPTERS, ROUTES
from tests.families.instruct_pix2pix import tiny
from tests.server.asking import Client, colours, psnr
from tests.server.test_fidelity import LEAST_DB

PICTURE, PROMPT, STEPS, SEED = colours(128, 128), "make the sky red", 12, 3
SEEN_DB = 40.0
"""An adapter's picture is at least so far from the one without."""


SEVERAL = "kohya:-1+oil:0.25+settings:2.0+ink"
"""A request for as many adapters as one may have."""


def reference(checkpoint: Path, model: str) -> Any:
    """diffusers' answer, (H, W, 3) uint8, with these LoRAs loaded alone: each at its scale times the request's."""
    adapters = []
    for part in filter(None, model.split("+")):
        route, _, asked = part.partition(":")
        name, _, scale = ROUTES[route].partition(":")
        adapters.append((ADAPTERS / name, float(scale or 1) * float(asked or 1)))
    given: dict[str, Any] = {"steps": STEPS, "seed": SEED, "guidance": (1.0, 1.5), "adapters": adapters}
    return tiny.reference(checkpoint, PICTURE, PROMPT, **given)


def test_one_batch_mixes_adapters_and_each_is_what_diffusers_makes_of_it(client: Client, checkpoint: Path) -> None:
    models = ["", *ROUTES, SEVERAL]
    asked: dict[str, Any] = {"prompt": PROMPT, "num_inference_steps": STEPS, "seed": SEED}
    rows, calls = client.figure("tritouch_denoiser_rows_total"), client.executions("denoiser")
    with ThreadPoolExecutor(len(models)) as pool:
        answers = list(pool.map(lambda model: client.edit(PICTURE, model=model, **asked), models))
    assert client.figure("tritouch_denoiser_rows_total") - rows == STEPS * len(models)
    assert client.executions("denoiser") - calls < 2 * STEPS, "the denoiser was called with rows of several adapters"
    pictures = {model: answer.pixels for model, answer in zip(models, answers, strict=True)}
    for model, ours in pictures.items():
        assert psnr(ours, reference(checkpoint, model)) >= LEAST_DB, model
        assert not model or psnr(ours, pictures[""]) < SEEN_DB, f"{model} is seen"


def test_guided_rows_all_have_the_edits_adapter(client: Client) -> None:
    guided: dict[str, Any] = {"num_inference_steps": 4, "seed": SEED, "guidance_scale": 5.0}
    alone = {model: client.edit(PICTURE, PROMPT, model=model, **guided).pixels for model in ("", "ink")}
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda m: client.edit(PICTURE, PROMPT, model=m, **guided).pixels, alone))
    for one, other in zip(alone.values(), together, strict=True):
        assert psnr(one, other) >= LEAST_DB
    assert psnr(alone[""], alone["ink"]) < SEEN_DB


def test_the_text_encoders_cache_tells_adapters_apart(client: Client) -> None:
    asked: dict[str, Any] = {"prompt": "a sentence of this test alone", "num_inference_steps": 1, "seed": SEED}
    before = client.executions("text_encoder")
    for model, executions in (("ink", 1), ("ink", 1), ("oil", 2), ("", 3), ("ink", 3)):
        client.edit(PICTURE, model=model, **asked)
        assert client.executions("text_encoder") - before == executions


def test_models_are_listed_and_others_refused_by_name(client: Client) -> None:
    with urllib.request.urlopen(f"{client.server.http_url}/v1/models") as answer:
        listed = json.load(answer)
    assert [model["id"] for model in listed["data"]] == ["base", *ROUTES]
    refused = client.edit(PICTURE, model="oil:0.5+nope")
    assert refused.status == 422
    known = f"There are: base, {', '.join(ROUTES)}."
    assert refused.body["error"]["message"] == f"There is no such model. No adapter is called 'nope'. {known}"


@pytest.mark.parametrize("model", [None, "", "base"])
def test_no_name_and_the_base_models_name_mean_no_adapter(client: Client, model: str | None) -> None:
    asked: dict[str, Any] = {"num_inference_steps": 1, "seed": SEED}
    assert client.edit(PICTURE, model=model, **asked).body["image"] == client.edit(PICTURE, **asked).body["image"]
