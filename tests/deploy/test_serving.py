"""The commands of the containers that serve, run here: with tiny repositories, on the wheel's Triton."""

import base64
import contextlib
import io
import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from embedded.command import PYTHON_PROCESS
from embedded.ports import choose
from embedded.wheel import environment, find_triton, lay_out_backends
from tests.conftest import ROOT
from tests.embedded.asking import looked
from tests.toy import build

from .conftest import DEPLOY, base_environment, dockerfile_commands, dockerfile_engines, healthy, run_here

pytestmark = pytest.mark.server

SECONDS = 180.0
JSON = {"Content-Type": "application/json"}
SHIM = """#!/bin/sh
exec {server} "$@" --backend-directory={backends} --cache-directory={caches} \\
  --grpc-address=127.0.0.1 --metrics-address=127.0.0.1
"""


def status(url: str, data: bytes | None = None) -> int:
    """The HTTP status of a GET, or of a POST of `data`."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, JSON), timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@contextlib.contextmanager
def running(
    command: list[str], env: dict[str, str], cwd: Path, ready: str, code: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """A container's command, once its health check passes; in the end stopped as Docker stops it, with this code."""
    process = subprocess.Popen(command, env=env, cwd=cwd)
    try:
        end = time.monotonic() + SECONDS
        while not healthy(ready):
            assert process.poll() is None, "ended before it was healthy"
            assert time.monotonic() < end, "not healthy in time"
            time.sleep(0.2)
        yield process
        process.terminate()
        assert process.wait(180) == code
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def triton_environment(tmp_path: Path) -> dict[str, str]:
    """The image's tritonserver, played by the wheel's."""
    files, backends, programs = find_triton(), tmp_path / "backends", tmp_path / "bin"
    lay_out_backends(files, backends)
    programs.mkdir()
    shim = programs / "tritonserver"
    shim.write_text(SHIM.format(server=files.server, backends=backends, caches=files.caches))
    shim.chmod(0o755)
    env = environment(files, base_environment())
    return {**env, "PATH": f"{programs}:{env['PATH']}"}


def test_triton_and_the_gateway_serve_an_edit(repository, triton_environment, tmp_path):
    http, grpc, metrics, port = choose("127.0.0.1", [(name, 0) for name in ("http", "grpc", "metrics", "gateway")])
    ports = {"HTTP": http, "GRPC": grpc, "METRICS": metrics}
    own = {f"TRITOUCH_TRITON_{name}_PORT": str(number) for name, number in ports.items()}
    own |= {"TRITOUCH_REPOSITORY": str(repository), "ENGINES": dockerfile_engines()["triton-cpu"]}
    env = {**triton_environment, **own}
    gateway = {"TRITOUCH_TRITON_GRPC": f"127.0.0.1:{grpc}", "TRITOUCH_PORT": str(port), "TRITOUCH_HOST": "127.0.0.1"}
    commands = {name: run_here(command) for name, command in dockerfile_commands().items()}
    with (
        running(commands["triton"], env, tmp_path, f"http://127.0.0.1:{http}/v2/health/ready"),
        running(commands["gateway"], base_environment() | gateway, ROOT, f"http://127.0.0.1:{port}/readyz"),
    ):
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(picture, "PNG")
        body = {
            "image": {"image": base64.b64encode(picture.getvalue()).decode()},
            "prompt": "make it blue",
            "num_inference_steps": 1,
        }
        url = f"http://127.0.0.1:{port}/v1/images/edits"
        assert [status(url, json.dumps(body).encode()) for _ in range(2)] == [200, 200]
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=60) as answer:
            figures = answer.read().decode()
        for closed in ("systemsharedmemory/status", "trace/setting", "logging"):
            assert status(f"http://127.0.0.1:{http}/v2/{closed}") == 403, closed
        assert status(f"http://127.0.0.1:{http}/v2/repository/index", b"") == 403
    dashboard = (DEPLOY / "monitoring" / "dashboards" / "tritouch.json").read_text()
    for name in set(re.findall(r"\b(?:tritouch_(?!gateway)|nv_(?!gpu))\w+", dashboard)):
        assert f"\n{name}" in figures, name
    (hits,) = re.findall(r'^nv_cache_num_hits_per_model\{model="text_encoder",.*\} (\d+)$', figures, re.MULTILINE)
    assert int(hits) == 1, "the second edit's sentence was in the cache"


def test_a_container_ends_when_a_process_that_triton_needs_dies(triton_environment, tmp_path):
    http, grpc, metrics = choose("127.0.0.1", [(name, 0) for name in ("http", "grpc", "metrics")])
    ports = {"HTTP": http, "GRPC": grpc, "METRICS": metrics}
    own = {f"TRITOUCH_TRITON_{name}_PORT": str(number) for name, number in ports.items()}
    own |= {"TRITOUCH_REPOSITORY": str(build(tmp_path / "models")), "ENGINES": "openvino"}
    command, ready = run_here(dockerfile_commands()["triton"]), f"http://127.0.0.1:{http}/v2/health/ready"
    with running(command, triton_environment | own, tmp_path, ready, code=128 + signal.SIGKILL) as triton:
        looked(triton.pid, rounds=4)
        for process in psutil.Process(triton.pid).children(recursive=True):
            if process.name().startswith(PYTHON_PROCESS[:15]):
                process.kill()
        triton.wait(180)
