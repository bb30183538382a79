"""Several Tritons side by side: where each is, and what becomes of one that cannot be kept."""

import contextlib
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from backends.gpu import Gpu, chosen
from embedded import ports
from embedded.errors import EmbeddedError, ServiceFailedError
from embedded.server import Embedded
from embedded.settings import Settings

from .asking import until


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def free_with_room():
    """A port that is free, as are those that three further Tritons would have."""
    while True:
        (first,) = ports.choose("127.0.0.1", [("", 0)])
        with contextlib.suppress(EmbeddedError):
            ports.choose("127.0.0.1", [("", first + 10 * number) for number in range(4)])
            return first


def test_each_has_ports_a_log_and_a_gpu_of_its_own(folder, tmp_path, monkeypatch):
    gpus = [Gpu("NVIDIA L4", "8.9", f"GPU-{number}") for number in range(2)]
    monkeypatch.setattr("embedded.server.chosen", lambda asked: chosen(asked, lambda: gpus))
    first = free_with_room()
    settings = Settings(gpus="all", triton_replicas=2, triton_grpc_port=first)
    tritons = Embedded(settings, Path("/r"), folder, {}).tritons
    assert [one.grpc for one in tritons] == [f"127.0.0.1:{first + 10 * number}" for number in range(4)]
    assert [one.log.name for one in tritons] == [f"triton-{number}.log" for number in range(4)]
    assert [one._env["CUDA_VISIBLE_DEVICES"] for one in tritons] == ["GPU-0", "GPU-0", "GPU-1", "GPU-1"]
    assert len({part for one in tritons for part in one.command("p-") if "metrics-port" in part}) == 4
    with pytest.raises(EmbeddedError, match=r"^TRITOUCH_GPUS: GPU 2 is not there: this machine has 0 to 1$"):
        Embedded(Settings(gpus="2"), Path("/r"), tmp_path, {})


def replica(name, lost):
    """A Triton that has ended and cannot be started, from when `lost` is set."""

    def fail():
        if lost.is_set():
            raise ServiceFailedError(f"{name} ended with exit code 9; its log: x\n  why")

    return SimpleNamespace(
        name=name, stopped=threading.Event(), restart=fail, service=SimpleNamespace(check_alive=fail)
    )


def test_one_that_cannot_be_kept_is_left_out_and_the_last_ends_the_servers(folder):
    running, told, failed = Embedded(Settings(), Path("/r"), folder, {}), [], []
    lost = [threading.Event(), threading.Event()]
    running.tritons = [replica(f"Triton {number}", one) for number, one in enumerate(lost)]

    def watch():
        try:
            running.watch(told.append, waits=(0,))
        except ServiceFailedError as error:
            failed.append(error)

    watching = threading.Thread(target=watch)
    watching.start()
    lost[0].set()
    assert until(lambda: len(told) == 2)
    assert told == [
        "Triton 0 ended with exit code 9; its log: x: started again in 0 s (1 of 1)",
        "Triton 0 is left out: Triton 0 ended with exit code 9; its log: x",
    ]
    assert watching.is_alive()
    lost[1].set()
    watching.join(60)
    (error,) = failed
    assert str(error).startswith("Triton 1 ended")
