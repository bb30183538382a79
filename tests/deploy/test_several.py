"""Several Tritons in one container, played by a program that only runs: each by itself, and all of them together."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from embedded.several import Several
from tests.conftest import ROOT
from tests.embedded.conftest import Marked

from .conftest import DEPLOY, base_environment, copy_image, dockerfile_commands, run_here

STAND_IN = """#!{python}
import json, os, signal, sys
from pathlib import Path
ports = [argument.rpartition("=")[2] for argument in sys.argv if argument.startswith("--grpc-port=")]
stop = os.environ["TRITOUCH_STOP_FILE"]
said = {{"pid": os.getpid(), "arguments": sys.argv[1:], "stop": stop}}
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
whole = Path("{folder}", ports[0] + ".new")
whole.write_text(json.dumps(said))
whole.replace(Path("{folder}", ports[0]))
while True:
    signal.pause()
"""


def until(holds: Callable[[], bool], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while not (true := holds()) and time.monotonic() < end:
        time.sleep(0.05)
    return true


class Container:
    """One that runs, with two Tritons, and what these say of themselves by their port."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.told = folder / "told"
        self.told.mkdir()
        (folder / "bin").mkdir()
        stand_in = folder / "bin" / "tritonserver"
        stand_in.write_text(STAND_IN.format(python=sys.executable, folder=self.told))
        stand_in.chmod(0o755)
        own = {"PATH": f"{stand_in.parent}:{os.environ['PATH']}", "TMPDIR": str(folder)}
        command = run_here(dockerfile_commands()["triton"], copy_image(folder))
        self.process = subprocess.Popen(
            command, cwd=folder, env=base_environment() | env | own, stdout=subprocess.PIPE, text=True
        )

    def of(self, port: int) -> dict[str, object]:
        assert until((self.told / str(port)).exists)
        return dict(json.loads((self.told / str(port)).read_text()))


@pytest.fixture
def container(installed: dict[str, str], tmp_path: Path) -> Iterator[Container]:
    made = Container(tmp_path, installed | {"TRITOUCH_TRITON_REPLICAS": "2"})
    yield made
    made.process.terminate()
    made.process.communicate()


@pytest.mark.slow
def test_each_has_its_ports_and_is_started_again_by_itself(container: Container, tmp_path: Path) -> None:
    first, second = container.of(8001), container.of(8011)
    ports = {argument for argument in second["arguments"] if "-port=" in argument}  # type: ignore[attr-defined]
    assert ports == {"--http-port=8010", "--grpc-port=8011", "--metrics-port=8012"}
    assert first["stop"] != second["stop"]
    urls = [f"http://127.0.0.1:{port}/v2/health/ready" for port in (8000, 8010)]
    assert (tmp_path / "tritouch-health").read_text().split() == urls
    os.kill(int(str(first["pid"])), signal.SIGKILL)
    assert until(lambda: container.of(8001)["pid"] != first["pid"])
    assert container.of(8011)["pid"] == second["pid"]
    container.process.terminate()
    said, _ = container.process.communicate(timeout=120)
    assert container.process.returncode == 0
    assert said == "error: Triton 0 ended with exit code 137: started again in 0 s\n"
    for pid in (container.of(8001)["pid"], second["pid"]):
        assert not Path(f"/proc/{pid}").exists()


# A Triton with a process that, as Triton's do, lives as long as the kernel knows Triton's id.
LEAVING = "sh -c 'while kill -0 $PPID; do sleep 0.1; done' & sleep 600"
FIRST_PROCESS = f"""
import os
from embedded.command import supervised
from embedded.several import Several
Several({{"one": (supervised(["sh", "-c", {LEAVING!r}], 1), os.environ)}}, waits=(600,)).run()
"""


@pytest.mark.slow
def test_nothing_is_left_of_one_whose_supervisor_is_killed() -> None:
    """A container's first process has what others left, and has to bury it."""
    first, marked = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"], Marked()
    if subprocess.run([*first, "true"], capture_output=True, check=False).returncode:
        pytest.skip("the kernel allows no namespaces of one's own")
    command = [*first, sys.executable, "-c", FIRST_PROCESS]
    container = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **marked.env})
    try:
        assert until(lambda: len(marked.pids("sh")) == 2)
        supervisor = psutil.Process(min(marked.pids("sh"))).parent()
        assert supervisor is not None
        supervisor.kill()
        assert until(lambda: not marked.pids("sh") + marked.pids("sleep"))
        assert len(marked.pids()) == 2, "unshare, and the first process"
    finally:
        container.kill()
        container.wait()
    assert marked.gone()


@pytest.mark.slow
def test_all_that_cannot_be_kept_end_the_container() -> None:
    failing = [sys.executable, "-c", "raise SystemExit(3)"]
    servers = {"a": (failing, os.environ), "b": (failing, os.environ)}
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        assert Several(servers, waits=(0, 0)).run() == 1
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), handlers, strict=True):
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        ("GPUS", "0", "TRITOUCH_GPUS: GPU 0 is not there: this machine has none\n"),
        ("GPUS", "x", "TRITOUCH_GPUS: 'x' is neither all nor"),
        ("TRITON_REPLICAS", "0", "TRITOUCH_TRITON_REPLICAS is '0', and must be a whole number from 1 to 64\n"),
        ("TRITON_REPLICAS", "two", "TRITOUCH_TRITON_REPLICAS is 'two', and must be a whole number from 1 to 64\n"),
    ],
)
def test_what_cannot_be_is_told(installed: dict[str, str], name: str, asked: str, told: str) -> None:
    command = [*run_here(dockerfile_commands()["triton"]), "--check"]
    env = base_environment() | installed | {f"TRITOUCH_{name}": asked}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith(told)


@contextmanager
def answering() -> Iterator[str]:
    """A server that is well, and its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow
def test_a_container_is_well_while_one_of_its_tritons_is(tmp_path: Path) -> None:
    asks = [sys.executable, str(DEPLOY / "healthy.py"), str(tmp_path / "health")]
    assert subprocess.run(asks, check=False).returncode == 1, "before it has begun"
    with answering() as url:
        (tmp_path / "health").write_text(f"http://127.0.0.1:9/\n{url}\n")
        done = subprocess.run(asks, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, f"http://127.0.0.1:9/ is not ready\n{url} is ready\n")
    assert subprocess.run(asks, capture_output=True, check=False).returncode == 1


@pytest.mark.slow
def test_tritons_that_hang_do_not_hide_one_that_is_well(tmp_path: Path) -> None:
    """Docker gives a check 10 s, and each of those that hang takes 5."""
    with socket.create_server(("127.0.0.1", 0)) as hung, answering() as url:
        never = [f"http://127.0.0.1:{hung.getsockname()[1]}/{number}" for number in range(3)]
        (tmp_path / "health").write_text("\n".join([*never, url]))
        asks = [sys.executable, str(DEPLOY / "healthy.py"), str(tmp_path / "health")]
        done = subprocess.run(asks, capture_output=True, text=True, check=False, timeout=10)
    assert (done.returncode, done.stdout.count("is not ready"), f"{url} is ready" in done.stdout) == (0, 3, True)


def test_who_answers_in_another_language_is_not_well(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        asks = [sys.executable, str(DEPLOY / "healthy.py"), f"http://127.0.0.1:{other.getsockname()[1]}/"]
        asking = subprocess.Popen(asks, stderr=subprocess.PIPE, text=True)
        connection, _ = other.accept()
        connection.recv(65536)
        connection.sendall(b"no such protocol\r\n\r\n")
        connection.close()
        assert asking.communicate(timeout=60) == (None, "")
    assert asking.returncode == 1


@pytest.mark.parametrize(("asked", "seen"), [("", ""), ("all", ""), ("2,0", "2")])
def test_engines_are_compiled_on_the_first_gpu_that_serves(tmp_path: Path, asked: str, seen: str) -> None:
    stand_in = tmp_path / "python3"
    stand_in.write_text('#!/bin/sh\nprintf %s "${CUDA_VISIBLE_DEVICES:-}"\n')
    stand_in.chmod(0o755)
    own = {
        "TRITOUCH_REPOSITORY": "/models",
        "TRITOUCH_MODEL": "a/b",
        "TRITOUCH_ENGINE": "tensorrt",
        "TRITOUCH_GPUS": asked,
    }
    env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"} | own
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    done = subprocess.run(["sh", str(DEPLOY / "export.sh")], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, seen)
