"""Adapters through the served API: each, and several at once, against diffusers, all of them in one batch."""

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from families.interface import MOST_ADAPTERS
from tests.conftest import ADAPTERS, ROUTES
from tests.families.instruct_pix2pix import tiny
from tests.server.asking import Client, colours, eventually, psnr
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
    calls, rows = client.denoiser_calls(), client.figure("tritouch_denoiser_rows_total")
    with ThreadPoolExecutor(len(models)) as pool:
        answers = list(pool.map(lambda model: client.edit(PICTURE, model=model, **asked), models))
    made = client.denoiser_calls() - calls
    assert made < STEPS * len(models), "the denoiser was called with rows of several adapters"
    assert client.figure("tritouch_denoiser_rows_total") - rows == STEPS * len(models)
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
    asked_for = (("ink", 1), ("ink", 1), ("kohya", 2), ("", 3), ("oil", 3), ("ink+oil+settings", 3), ("kohya+oil", 3))
    for model, executions in asked_for:  # oil and settings leave the text encoder as it is
        client.edit(PICTURE, model=model, **asked)
        assert eventually(lambda wanted=before + executions: client.executions("text_encoder") == wanted), model


@pytest.mark.parametrize("columns", [MOST_ADAPTERS, MOST_ADAPTERS + 1])
def test_no_caller_adds_up_more_adapters_than_an_edit_may_have(client: Client, columns: int) -> None:
    given = {
        "sample": np.zeros((1, 8, 16, 16), np.float32),
        "timestep": np.ones((1, 1), np.float32),
        "encoder_hidden_states": np.zeros((1, 77, 64), np.float32),
        "adapter": np.ones((1, columns), np.int32),
        "adapter_scale": np.ones((1, columns), np.float32),
    }
    inputs = []
    for name, array in given.items():
        inputs.append(triton_grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    with triton_grpc.InferenceServerClient(client.server.triton_grpc) as triton:
        if columns <= MOST_ADAPTERS:
            assert np.isfinite(triton.infer("denoiser", inputs).as_numpy("prediction")).all()
            return
        with pytest.raises(InferenceServerException, match=r"input adapter is \[5\], and may be at most \[4\]"):
            triton.infer("denoiser", inputs)


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
