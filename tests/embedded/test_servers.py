"""The real Triton on toy repositories: what is served, how it stops, and that nothing is left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from embedded import serve
from embedded.settings import ROOT
from embedded.supervisor import SHM, SHM_PREFIX
from tests.toy import CONFIG, save_twice, write_model

from .conftest import wait_busy

pytestmark = pytest.mark.server

STUCK_CONFIG = """
backend: "python"
input [ { name: "x" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""

# Catastrophic backtracking: busy for ever without letting go of the interpreter's lock.
STUCK_MODEL = """
import re


class TritonPythonModel:
    def execute(self, requests):
        re.match("(a+)+$", "a" * 60 + "b")
"""


def regions():
    return set(SHM.glob(f"{SHM_PREFIX}*"))


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def tensors(module, x, t):
    inputs = [module.InferInput("x", x.shape, "FP32"), module.InferInput("t", t.shape, "INT64")]
    for tensor, array in zip(inputs, (x, t), strict=True):
        tensor.set_data_from_numpy(array)
    return inputs


def arrays(rows, size, t):
    x = np.random.default_rng(t).normal(size=(rows, 4, size, size)).astype(np.float32)
    return x, np.full((rows, 1), t, np.int64)


def right(x, t, y):
    return np.allclose(y, 2 * x + t[:, :, None, None], atol=1e-5)


@pytest.fixture(scope="module")
def running(toy):
    with serve(toy, port=0) as servers:
        yield servers


@pytest.fixture
def command(marked, tmp_path_factory):
    """Starts ``python -m embedded``, every process of which bears the mark."""
    started = []
    folder = tmp_path_factory.mktemp("runs")

    def run(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "embedded", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **marked.env, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def addresses(process):
    """Triton's gRPC address and the run folder, once the command says that it serves."""
    first = process.stdout.readline()
    assert first.startswith("Triton"), process.stderr.read()
    line = first
    while not line.startswith("logs"):
        line = process.stdout.readline()
    return first.split()[2], line.split()[1]


@pytest.mark.parametrize("model", ["twice", "edit"])
def test_grpc_and_http_answer(running, model):
    x, t = arrays(2, 3, 5)
    with grpcclient.InferenceServerClient(running.triton_grpc) as client:
        assert right(x, t, client.infer(model, tensors(grpcclient, x, t)).as_numpy("y"))
    with httpclient.InferenceServerClient(running.triton_http) as client:
        assert right(x, t, client.infer(model, tensors(httpclient, x, t)).as_numpy("y"))


def test_the_gateway_is_ready_and_metrics_are_served(running):
    assert status(f"{running.http_url}/readyz") == 200
    with urllib.request.urlopen(running.metrics_url, timeout=10) as answer:
        assert b"nv_inference_request_success" in answer.read()


def test_fp32_is_fp32_in_triton(running):
    assert "'INFERENCE_PRECISION_HINT': 'f32'" in running.triton_log.read_text()


def test_concurrent_requests_are_merged_and_mixed_shapes_are_each_right(running):
    with grpcclient.InferenceServerClient(running.triton_grpc) as client:

        def ask(case):
            return right(*case, client.infer("edit", tensors(grpcclient, *case)).as_numpy("y"))

        def counts():
            # Zeros are left out.
            (model,) = client.get_inference_statistics("twice", as_json=True)["model_stats"]
            return [int(model.get(name, 0)) for name in ("inference_count", "execution_count")]

        before = counts()
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, [arrays(1, 3, number) for number in range(8)]))
            rows, calls = np.subtract(counts(), before)
            # Triton itself begins a new batch wherever the shape changes.
            assert all(pool.map(ask, [arrays(1, (2, 5)[number % 2], number) for number in range(8)]))
    assert rows == 8
    assert calls < 8


def test_a_request_of_a_wrong_shape_is_refused_and_the_next_is_served(running):
    x, t = arrays(1, 3, 1)
    with grpcclient.InferenceServerClient(running.triton_grpc) as client:
        with pytest.raises(InferenceServerException, match="unexpected shape"):
            client.infer("twice", tensors(grpcclient, x[:, :2], t))
        assert right(x, t, client.infer("twice", tensors(grpcclient, x, t)).as_numpy("y"))


def test_the_server_takes_no_orders(running):
    with grpcclient.InferenceServerClient(running.triton_grpc) as client:
        for order in (
            lambda: client.register_system_shared_memory("mine", "/any", 64),
            lambda: client.load_model("twice"),
            lambda: client.update_log_settings({"log_verbose_level": 1}),
        ):
            with pytest.raises(InferenceServerException, match="restricted"):
                order()


def test_triton_killed_and_restarted_under_the_gateway(toy, marked):
    x, t = arrays(1, 2, 1)
    with serve(toy, port=0, env=marked.env) as servers:
        before = servers.triton_grpc
        assert marked.pids("triton_python_backend_stub")
        servers.kill_triton()
        assert marked.pids("triton_python_backend_stub") == []
        assert status(f"{servers.http_url}/readyz") == 503
        servers.restart_triton()
        assert servers.triton_grpc == before
        with grpcclient.InferenceServerClient(servers.triton_grpc) as client:
            assert right(x, t, client.infer("edit", tensors(grpcclient, x, t)).as_numpy("y"))
        end = time.monotonic() + 10
        while status(f"{servers.http_url}/readyz") != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
    assert marked.pids() == []


def test_a_model_that_does_not_load_ends_the_command_with_the_reason(command, tmp_path, marked):
    config = CONFIG.replace("TYPE_INT64 dims: [ 1 ]", "TYPE_INT32 dims: [ 1 ]")
    save_twice(write_model(tmp_path, "twice", config))
    process = command("--repository", tmp_path, "--no-gateway")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert "input t int32 [-1, 1] in config.pbtxt is t int64 [-1, 1] in the model" in err
    assert "Traceback" not in err
    log = Path(err.splitlines()[0].rsplit(" ", 1)[1])
    assert "twice" in log.read_text()
    assert marked.pids() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_is_asked_for_leaves_nothing(command, toy, marked, number):
    before = regions()
    process = command("--repository", toy, "--port", 0)
    _, run = addresses(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert marked.pids() == []
    assert not Path(run).exists()
    assert regions() <= before


def test_kill_9_leaves_no_process_even_with_a_model_that_is_stuck(command, tmp_path, marked):
    before = regions()
    write_model(tmp_path, "edit", STUCK_CONFIG, {"model.py": STUCK_MODEL})
    process = command("--repository", tmp_path, "--port", 0)
    grpc, _ = addresses(process)
    x = grpcclient.InferInput("x", [1], "INT32")
    x.set_data_from_numpy(np.zeros(1, np.int32))

    def ask():
        with pytest.raises(InferenceServerException), grpcclient.InferenceServerClient(grpc) as client:
            client.infer("edit", [x])

    asking = threading.Thread(target=ask)
    asking.start()
    (stub,) = marked.pids("triton_python_backend_stub")
    wait_busy(stub)
    process.kill()
    assert marked.gone_within(5)
    asking.join()
    assert regions() <= before


def test_a_triton_that_dies_ends_the_command_with_code_1(command, toy, marked):
    process = command("--repository", toy, "--no-gateway")
    addresses(process)
    (server,) = marked.pids("tritonserver")
    os.kill(server, signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.startswith("embedded: Triton ended with exit code 137; its log: ")
    assert marked.pids() == []


def test_a_busy_port_is_one_line_at_once(command, toy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = command("--repository", toy, "--port", port)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err.splitlines() == [f"embedded: port {port} on 127.0.0.1 is in use: stop what uses it, or choose another"]
