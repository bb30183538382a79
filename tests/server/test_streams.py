"""Edits that are streamed, and several pictures of one request, on the real Triton."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from tests.server.asking import Client, colours, eventually
from tests.server.faults import Faults
from tests.server.streams import Response, shown, stream
from tests.server.tensors import grpc_inputs

PICTURE = colours(96, 64)
STEP = 0.1
"""Seconds that a slow denoiser waits."""
PREVIEWED = 0.3
"""Seconds of a step in which a preview is decoded."""


def unary(client: Client, **inputs: Any) -> Any:
    with triton_grpc.InferenceServerClient(client.server.triton_grpc) as triton:
        return triton.infer("edit", grpc_inputs(PICTURE, **inputs))


def test_a_stream_ends_with_the_picture_of_the_unary_edit(faulty: tuple[Client, Faults]) -> None:
    client, faults = faulty
    alone = unary(client, steps=6)
    faults.set(delay=PREVIEWED)  # else the picture may be done before its previews, which then do not come
    begun, *told, last = shown(client.server, PICTURE, 2, steps=6, progress=[True])
    assert (begun.kind, begun.step) == ("begun", (0, 6))
    assert begun.tensors["num_inference_steps"].tolist() == [6]
    assert last.last
    assert (last.kind, last.step, last.tensors["index"].tolist()) == ("picture", (6, 6), [0])
    told_of = ("num_inference_steps", "guidance_scale", "image_guidance_scale", "cache", "tokens", "foretold")
    for name in ("image", "size", *told_of):
        assert last.tensors[name].tolist() == alone.as_numpy(name).tolist()
    assert alone.as_numpy("tokens").tolist() == [77, 12 * 8, 12 * 8]
    assert (alone.as_numpy("cache").tolist(), alone.as_numpy("foretold").tolist()) == ([b"off"], [0])
    previews = [response for response in told if response.kind == "preview"]
    assert [(one.step[0], one.tensors["partial_index"].tolist()) for one in previews] == [(2, [0]), (4, [1])]
    steps = [response.step[0] for response in told]
    assert steps == sorted(steps), "never reordered"
    assert {response.kind for response in told} == {"preview", "progress"}


def test_of_cached_steps_each_is_told_too(faulty: tuple[Client, Faults]) -> None:
    client, faults = faulty
    calls = client.denoiser_calls()
    alone = unary(client, steps=16, cache=[b"balanced"])
    assert client.denoiser_calls() - calls < 16
    faults.set(delay=PREVIEWED)
    begun, *told, last = shown(client.server, PICTURE, 3, steps=16, cache=[b"balanced"], progress=[True])
    assert 0 < last.tensors["foretold"].item() < 16
    assert last.tensors["cache"].tolist() == [b"balanced"]
    assert (begun.step, last.step, last.kind) == ((0, 16), (16, 16), "picture")
    assert [one.step for one in told if one.kind == "preview"] == [(4, 16), (8, 16), (12, 16)]
    assert last.tensors["image"].tolist() == alone.as_numpy("image").tolist()
    for name in ("cache", "foretold", "tokens"):
        assert last.tensors[name].tolist() == alone.as_numpy(name).tolist()


def test_nothing_is_told_that_was_not_asked_for(client: Client) -> None:
    with stream(client.server, PICTURE, steps=6) as responses:
        assert [response.kind for response in responses] == ["begun", "picture"]


def test_the_pictures_of_a_request_are_those_of_their_seeds_and_conditioned_once(client: Client) -> None:
    asked = {"prompt": [b"a sentence that was not seen before"], "steps": 5, "guidance_scale": [4.0]}
    encoders, seeds = ("text_encoder", "preprocess", "vae_encoder"), [2**64 - 2, 2**64 - 1, 0]
    before, calls = {name: client.executions(name) for name in encoders}, client.denoiser_calls()
    together = unary(client, **asked, seed=[seeds[0]], n=[3])
    wanted = {name: number + 1 for name, number in before.items()}
    assert eventually(lambda: {name: client.executions(name) for name in encoders} == wanted)
    assert client.denoiser_calls() - calls == 10, "nine rows, and a call holds eight"
    alone = [unary(client, **asked, seed=[seed]).as_numpy("image")[0] for seed in seeds]
    assert len(set(alone)) == 3
    for ours, single in zip(together.as_numpy("image"), alone, strict=True):
        assert np.abs(np.frombuffer(ours, np.uint8).astype(int) - np.frombuffer(single, np.uint8)).max() <= 2


def test_every_picture_of_a_stream_is_told_of(client: Client) -> None:
    with stream(client.server, PICTURE, steps=4, n=[2], progress=[True]) as responses:
        told = list(responses)
    finished = [response for response in told if response.kind == "picture"]
    assert sorted(response.tensors["index"][0] for response in finished) == [0, 1]
    assert [response.last for response in told].count(True) == 1
    for index in (0, 1):
        own = [one for one in told if one.tensors.get("index", [None])[0] == index]
        assert own[-1].kind == "picture", "nothing of a picture follows the finished one"


@pytest.mark.parametrize(
    ("changed", "code"), [({"steps": 99}, "parameter_invalid"), ({"image": [b"no picture"]}, "image_unreadable")]
)
def test_what_cannot_be_edited_is_told_before_anything_else(client: Client, changed: dict[str, Any], code: str) -> None:
    def counted() -> float:
        return client.figure("tritouch_edits_total", outcome="refused")

    before = counted()
    refused = pytest.raises(triton_grpc.InferenceServerException, match=f"tritouch:{code}")
    with stream(client.server, PICTURE, **changed) as responses, refused:
        next(responses)
    assert eventually(lambda: counted() == before + 1)


@pytest.mark.parametrize("name", ["n", "partial_images"])
def test_a_number_out_of_bounds_is_named(client: Client, name: str) -> None:
    refused = pytest.raises(triton_grpc.InferenceServerException, match=f"tritouch:parameter_invalid {name} must be")
    with stream(client.server, PICTURE, **{name: [11]}) as responses, refused:
        next(responses)


@pytest.fixture
def slow(faulty: tuple[Client, Faults]) -> Iterator[Client]:
    client, faults = faulty
    faults.set(delay=STEP)
    yield client
    faults.set()
    assert eventually(lambda: client.figure("tritouch_edits_in_flight") == 0)


def until_active(client: Client, count: int) -> None:
    assert eventually(lambda: client.figure("tritouch_edits_in_flight", state="active") == count)


def test_streams_and_unary_edits_share_calls(faulty: tuple[Client, Faults], slow: Client) -> None:
    _, faults = faulty
    before = slow.executions("engine"), slow.figure("tritouch_denoiser_rows_total")
    faults.set(delay=5 * STEP)
    with ThreadPoolExecutor(1) as pool, stream(slow.server, PICTURE, steps=20) as responses:
        assert next(responses).kind == "begun"
        beside = pool.submit(unary, slow, steps=20, low_priority=[True])
        until_active(slow, 2)
        faults.set()
        last = list(responses)[-1]
        other = np.frombuffer(beside.result().as_numpy("image")[0], np.uint8).reshape(last.pixels.shape)
        assert np.abs(last.pixels.astype(int) - other).max() <= 2
    assert eventually(lambda: slow.figure("tritouch_denoiser_rows_total") - before[1] == 40)
    assert slow.executions("engine") - before[0] < 40


@pytest.mark.parametrize("pictures", [1, 3])
def test_a_stream_closed_midway_frees_its_rows(slow: Client, pictures: int) -> None:
    before = slow.figure("tritouch_edits_total", outcome="cancelled")
    with stream(slow.server, PICTURE, steps=50, n=[pictures], progress=[True]) as responses:
        until_active(slow, pictures)
        assert any(response.step[0] > 1 for response in responses)
    assert eventually(lambda: slow.figure("tritouch_edits_total", outcome="cancelled") == before + pictures)
    assert eventually(lambda: slow.figure("tritouch_edits_in_flight") == 0)


def test_one_failure_ends_all_pictures(faulty: tuple[Client, Faults], slow: Client) -> None:
    _, faults = faulty
    before = slow.figure("tritouch_edits_total", outcome="failed")

    def told(responses: Iterator[Response]) -> None:
        next(responses)
        faults.set(failures=1)
        list(responses)

    failing = pytest.raises(triton_grpc.InferenceServerException, match="tritouch:failed")
    with stream(slow.server, PICTURE, steps=50, n=[2]) as responses, failing:
        told(responses)
    assert eventually(lambda: slow.figure("tritouch_edits_total", outcome="failed") == before + 2)


def test_more_pictures_than_places_are_refused_for_good(slow: Client) -> None:
    with pytest.raises(triton_grpc.InferenceServerException, match="tritouch:edit_too_large 4 pictures") as refused:
        unary(slow, n=[4])
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
