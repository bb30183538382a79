"""What goes wrong mid-edit: callers that leave, a denoiser that fails, a full queue, a Triton that dies."""

import base64
import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc as triton_grpc

from embedded.server import serve
from embedded.settings import Settings
from tests.server.asking import Client, colours, eventually, png
from tests.server.faults import Faults
from tests.server.tensors import grpc_inputs

PICTURE = colours(64, 64)
STEP = 0.2
"""Seconds that a slow denoiser waits."""


def active(client: Client) -> float:
    return client.figure("tritouch_edits_in_flight", state="active")


def in_flight(client: Client) -> float:
    return client.figure("tritouch_edits_in_flight")


def cancelled(client: Client) -> float:
    return client.figure("tritouch_edits_total", outcome="cancelled")


def steps(client: Client) -> float:
    return client.figure("tritouch_steps_total")


def test_a_short_edit_overtakes_a_long_one(faulty: tuple[Client, Faults]) -> None:
    client, faults = faulty
    faults.set(delay=STEP)
    answered: list[str] = []
    begun = steps(client)

    def edit(name: str, count: int) -> None:
        assert client.edit(PICTURE, num_inference_steps=count).status == 200
        answered.append(name)

    long = threading.Thread(target=edit, args=("long", 50))
    long.start()
    assert eventually(lambda: steps(client) > begun)
    edit("short", 4)
    done = steps(client) - begun
    assert answered == ["short"]
    assert done < 54 - 4, "the long one still has steps to go"
    faults.set()
    long.join()
    assert answered == ["short", "long"]
    assert eventually(lambda: steps(client) - begun == 54)


def test_a_cancelled_grpc_call_frees_its_rows_within_a_step(faulty: tuple[Client, Faults]) -> None:
    client, faults = faulty
    faults.set(delay=STEP)
    before = cancelled(client)
    ended = threading.Event()
    with triton_grpc.InferenceServerClient(client.server.triton_grpc) as triton:
        call = triton.async_infer("edit", grpc_inputs(PICTURE, steps=50), lambda result, error: ended.set())
        assert eventually(lambda: active(client) == 1)
        call.cancel()
        done = client.executions("engine")
        assert ended.wait(120)
        assert eventually(lambda: cancelled(client) == before + 1)
    assert eventually(lambda: in_flight(client) == 0)
    assert client.executions("engine") - done <= 4, "it is noticed within a step, and one was under way"


def test_a_lost_http_connection_cancels_the_edit(faulty: tuple[Client, Faults]) -> None:
    client, faults = faulty
    faults.set(delay=STEP)
    before = cancelled(client)
    body = json.dumps(
        {"image": {"image": base64.b64encode(png(PICTURE)).decode()}, "prompt": "red"} | {"num_inference_steps": 50}
    )
    connection = http.client.HTTPConnection(client.server.http_url.removeprefix("http://"))
    connection.request("POST", "/v1/images/edits", body, {"Content-Type": "application/json"})
    assert eventually(lambda: active(client) == 1)
    connection.close()
    assert eventually(lambda: cancelled(client) == before + 1)
    assert eventually(lambda: in_flight(client) == 0)


def test_a_denoiser_that_fails_once_fails_that_call_alone(faulty: tuple[Client, Faults]) -> None:
    client, faults = faulty
    faults.set(failures=1)
    answer = client.edit(PICTURE, num_inference_steps=4)
    assert answer.status == 500
    assert answer.headers["x-should-retry"] == "false"
    assert "secret" not in json.dumps(answer.body)
    assert client.edit(PICTURE, num_inference_steps=4).status == 200


def test_a_bad_picture_is_its_callers_fault_and_no_failure(faulty: tuple[Client, Faults]) -> None:
    client, _ = faulty

    def count(outcome: str) -> float:
        return client.figure("tritouch_edits_total", outcome=outcome)

    failed, refused = count("failed"), count("refused")
    broken = base64.b64encode(png(PICTURE)[:60]).decode()
    assert client.edit(PICTURE, image={"image": broken}).status == 422
    assert eventually(lambda: count("refused") == refused + 1)
    assert count("failed") == failed


def test_a_full_queue_is_429_and_passes(faulty: tuple[Client, Faults]) -> None:
    client, faults = faulty
    faults.set(delay=STEP)
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(client.edit, PICTURE, num_inference_steps=40) for _ in range(6)]
        assert eventually(lambda: sum(future.done() for future in futures) >= 3)
        faults.set()
        answers = [future.result() for future in futures]
    assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 3
    assert all("retry-after" in answer.headers for answer in answers if answer.status == 429)
    assert client.edit(PICTURE, num_inference_steps=2).status == 200


def test_an_expired_edit_leaves_the_batch(faulty: tuple[Client, Faults]) -> None:
    client, faults = faulty
    faults.set(delay=STEP)
    before = client.figure("tritouch_edits_total", outcome="expired")
    expired = pytest.raises(triton_grpc.InferenceServerException, match="tritouch:expired")
    with triton_grpc.InferenceServerClient(client.server.triton_grpc) as triton, expired:
        triton.infer("edit", grpc_inputs(PICTURE, steps=50), timeout=500_000)
    assert eventually(lambda: client.figure("tritouch_edits_total", outcome="expired") == before + 1)
    assert eventually(lambda: in_flight(client) == 0)


def test_triton_killed_and_restarted_under_a_running_gateway(faulty: tuple[Client, Faults]) -> None:
    client, faults = faulty
    faults.set(delay=STEP)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(client.edit, PICTURE, num_inference_steps=50)
        assert eventually(lambda: active(client) == 1)
        client.server.kill_triton()
        assert under_way.result(timeout=120).status == 503
    assert client.edit(PICTURE, num_inference_steps=2).status == 503
    assert client.status("/livez") == 200
    assert client.status("/readyz") == 503
    client.server.restart_triton()
    faults.set()
    assert eventually(lambda: client.status("/readyz") == 200)
    assert client.edit(PICTURE, num_inference_steps=2).status == 200


def test_a_stop_that_has_no_time_for_an_edit_lets_the_gateway_end_by_itself(repository: Path, tmp_path: Path) -> None:
    faults = Faults(tmp_path, repository)
    faults.set(delay=0.5)
    with ThreadPoolExecutor(1) as pool:
        with serve(faults.repository, port=0, settings=Settings(stop_seconds=1)) as running:
            client = Client(running)
            under_way = pool.submit(client.edit, PICTURE, num_inference_steps=50)
            assert eventually(lambda: active(client) == 1)
        assert running._gateway is not None
        assert running._gateway.exit_code == 0
        answer = under_way.result()
    assert (answer.status, answer.body["error"]["code"]) == (503, "shutting_down")
