"""Processes of the real Triton, on toy repositories, that are killed or stuck: what becomes of the others."""

import contextlib
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from embedded import serve
from embedded.errors import ServiceFailedError
from embedded.shared_memory import SHM
from tests.toy import write_model

from .asking import STUB, addresses, arrays, looked, regions, right, status, tensors, until
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


def ask_in_vain(grpc):
    """Ask what is stuck, and be told in the end that the server is gone."""
    x = grpcclient.InferInput("x", [1], "INT32")
    x.set_data_from_numpy(np.zeros(1, np.int32))
    with pytest.raises(InferenceServerException), grpcclient.InferenceServerClient(grpc) as client:
        client.infer("edit", [x])


def test_kill_9_leaves_no_process_even_with_a_model_that_is_stuck(command, tmp_path, marked):
    write_model(tmp_path, "edit", STUCK_CONFIG, {"model.py": STUCK_MODEL})
    process = command("--repository", tmp_path, "--port", 0)
    grpc, _, _ = addresses(process)
    own = regions(*marked.pids("tritonserver"))
    assert list(SHM.glob(own))
    asking = threading.Thread(target=ask_in_vain, args=(grpc,))
    asking.start()
    (stub,) = marked.pids(STUB)
    wait_busy(stub)
    process.kill()
    assert marked.gone()
    asking.join()
    assert not list(SHM.glob(own))


def test_what_dies_is_noticed_and_started_again_under_the_gateway(command, toy, marked):
    process = command("--repository", toy, "--port", 0)
    grpc, url, _ = addresses(process)
    x, t = arrays(1, 2, 1)
    for program in (STUB, "tritonserver"):
        before = marked.pids("tritonserver")
        looked(psutil.Process(*before).ppid())
        os.kill(marked.pids(program)[-1], signal.SIGKILL)
        assert until(lambda: status(f"{url}/readyz") == 503)
        assert until(lambda: status(f"{url}/readyz") == 200)
        assert marked.pids("tritonserver") != before
        with grpcclient.InferenceServerClient(grpc) as client:
            assert right(x, t, client.infer("edit", tensors(grpcclient, x, t)).as_numpy("y"))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0
    first, second = err.splitlines()
    assert re.fullmatch(
        rf"embedded: Triton ended .* \(error: {STUB} \d+ \(.*model.*\) has died.*: started .* \(1 of 5\)", first
    )
    assert re.fullmatch(
        r"embedded: Triton ended with exit code 137; its log: \S+: started .* in 1 s \(2 of 5\)", second
    )
    assert marked.pids() == []


def _take(host, port, taken):
    with contextlib.suppress(OSError):
        taken.append(socket.create_server((host, port)))
    return bool(taken)


def test_a_triton_that_cannot_be_started_again_ends_the_servers_with_code_1(toy, marked):
    """Nor does a supervisor that is killed leave any process."""
    told = []
    with serve(toy, gateway=False, env=marked.env) as servers:
        assert marked.pids(STUB)
        servers.tritons[0].service._supervisor.kill()
        assert until(lambda: not marked.pids("tritonserver"))
        host, port = servers.triton_grpc.split(":")
        taken: list[socket.socket] = []
        assert until(lambda: _take(host, int(port), taken)), "what has died lets go of its ports"
        with (
            taken[0],
            pytest.raises(ServiceFailedError, match="Triton ended") as failed,
        ):
            servers.watch(told.append, waits=(0.1,))
        assert marked.gone()
    assert failed.value.exit_code == 1
    assert len(told) == 1


def test_of_several_each_is_started_again_by_itself(command, toy, marked):
    process = command("--repository", toy, "--port", 0, "--replicas", 2)
    _, url, _ = addresses(process)
    dying, living = marked.pids("tritonserver")
    os.kill(dying, signal.SIGKILL)
    assert until(lambda: dying not in marked.pids("tritonserver"))
    assert until(lambda: status(f"{url}/readyz") == 200), "the other serves"
    assert until(lambda: len(marked.pids("tritonserver")) == 2)
    assert living in marked.pids("tritonserver")
    assert until(lambda: ready(url) == ["1.0", "1.0"]), "both are there again"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0
    assert re.fullmatch(r"embedded: Triton [01] ended with exit code 137; its log: \S+: started .* \(1 of 5\)\n", err)
    assert marked.pids() == []


def ready(url):
    """What the gateway's metrics say of each Triton."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        return re.findall(r"^tritouch_gateway_triton_ready\{.*\} (\S+)$", answer.read().decode(), re.MULTILINE)


def test_a_second_signal_does_not_wait_for_what_is_in_flight(command, tmp_path, marked):
    write_model(tmp_path, "edit", STUCK_CONFIG, {"model.py": STUCK_MODEL})
    process = command("--repository", tmp_path, "--no-gateway")
    grpc, _, _ = addresses(process)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_in_vain, grpc)
        (stub,) = marked.pids(STUB)
        wait_busy(stub)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline().startswith("stopping once what is in flight is done; again")
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=180)
        asking.result()
    assert (process.returncode, err) == (0, "")
    assert marked.pids() == []
