"""The real Triton on toy repositories: what is served, how it stops, and that nothing is left behind."""

import os
import shutil
import signal
import socket
import struct
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
from embedded.errors import ServiceFailedError
from embedded.settings import Settings
from embedded.shared_memory import SHM
from tests.toy import CONFIG, save_twice, write_model

from .asking import addresses, arrays, regions, right, status, tensors

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def running(toy):
    with serve(toy, port=0, settings=Settings(triton_http_port=0)) as servers:
        yield servers


@pytest.mark.parametrize("model", ["twice", "edit"])
def test_grpc_and_http_answer(running, model):
    x, t = arrays(2, 3, 5)
    with grpcclient.InferenceServerClient(running.triton_grpc) as client:
        assert right(x, t, client.infer(model, tensors(grpcclient, x, t)).as_numpy("y"))
    with httpclient.InferenceServerClient(running.triton_http) as client:
        assert right(x, t, client.infer(model, tensors(httpclient, x, t)).as_numpy("y"))


def test_the_gateway_is_ready_and_metrics_are_served(running):
    assert status(f"{running.http_url}/readyz") == 200
    with urllib.request.urlopen(running.metrics_url, timeout=60) as answer:
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


def frame(kind, flags, content):
    """A frame of HTTP/2, on stream 1 or, for settings, on none."""
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", kind != 4) + content


def raw_call(address, path, name, value):
    """What gRPC answers to an empty message with this header, which no client would let through."""
    known = {":method": "POST", ":scheme": "http", ":path": path, "te": "trailers", "content-type": "application/grpc"}
    headers = [(one.encode(), what.encode()) for one, what in {**known, ":authority": "x", name: value}.items()]
    packed = b"".join(b"\0" + bytes([len(one)]) + one + bytes([len(what)]) + what for one, what in headers)
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), 60) as connection:
        sent = frame(4, 0, b"") + frame(1, 4, packed) + frame(0, 1, bytes(5))
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + sent)
        found = b""
        while b"grpc-status" not in found:
            found += connection.recv(65536)
    return found


def test_the_server_takes_no_orders_even_from_who_has_read_its_key(running):
    words = Path(f"/proc/{running.triton_pid}/cmdline").read_text().split("\0")
    (given,) = [word for word in words if word.startswith("--grpc-restricted-protocol=shared-memory,")]
    name, _, value = given.partition(":")[2].partition("=")
    service, header = "/inference.GRPCInferenceService/", (f"triton-grpc-protocol-{name}", value)
    assert b"grpc-status\x010" in raw_call(running.triton_grpc, service + "ServerLive", "a", "b")
    assert b"grpc-status\x010" not in raw_call(running.triton_grpc, service + "SystemSharedMemoryStatus", *header)
    host, port = running.triton_http.split(":")
    with socket.create_connection((host, int(port)), 60) as connection:
        connection.sendall(f"GET /v2/systemsharedmemory/status HTTP/1.1\r\nHost: x\r\n{name}: {value}\r\n\r\n".encode())
        assert b" 200 " not in connection.recv(65536)


def test_other_users_can_read_none_of_its_memory(running):
    modes = [region.stat().st_mode & 0o777 for region in SHM.glob(regions(running.triton_pid))]
    assert len(modes) >= 2, "its lock, and one for each Python process"
    assert set(modes) == {0o600}
    assert running.run.stat().st_mode & 0o777 == 0o700


def test_a_repository_of_any_name_is_served_in_any_locale(toy, tmp_path):
    repository = tmp_path / "Ünser & 'Eure' models (1)"
    shutil.copytree(toy, repository)
    x, t = arrays(1, 2, 1)
    with (
        serve(repository, gateway=False, env={"LC_ALL": "C"}) as servers,
        grpcclient.InferenceServerClient(servers.triton_grpc) as client,
    ):
        assert right(x, t, client.infer("edit", tensors(grpcclient, x, t)).as_numpy("y"))


def test_a_model_that_does_not_load_ends_the_command_with_the_reason(command, tmp_path, marked):
    config = CONFIG.replace("TYPE_INT64 dims: [ 1 ]", "TYPE_INT32 dims: [ 1 ]")
    save_twice(write_model(tmp_path, "twice", config))
    process = command("--repository", tmp_path, "--no-gateway")
    out, err = process.communicate(timeout=180)
    assert process.returncode == 1
    assert out == ""
    assert "input t int32 [-1, 1] in config.pbtxt is t int64 [-1, 1] in the model" in err
    assert "Traceback" not in err
    log = Path(err.splitlines()[0].rsplit(" ", 1)[1])
    assert "twice" in log.read_text()
    assert marked.pids() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_is_asked_for_leaves_nothing(command, toy, marked, number):
    process = command("--repository", toy, "--port", 0)
    _, _, run = addresses(process)
    own = regions(*marked.pids("tritonserver"))
    assert list(SHM.glob(own))
    process.send_signal(number)
    _, err = process.communicate(timeout=180)
    assert (process.returncode, err) == (0, "")
    assert marked.pids() == []
    assert not Path(run).exists()
    assert not list(SHM.glob(own))


def test_a_busy_port_is_one_line_at_once(command, toy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = command("--repository", toy, "--port", port)
        _, err = process.communicate(timeout=180)
    assert process.returncode == 2
    assert err.splitlines() == [f"embedded: port {port} on 127.0.0.1 is in use: stop what uses it, or choose another"]


def test_a_gateway_that_dies_ends_the_servers(running):
    """The last test that uses them."""
    os.kill(running._gateway.pid, signal.SIGKILL)
    with pytest.raises(ServiceFailedError, match="gateway ended with exit code 137"):
        running.watch(print)
