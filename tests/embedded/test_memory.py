"""Too little memory is told in one line before Triton starts."""

import os
from types import SimpleNamespace

import pytest

from backends import machine
from embedded import memory, serve
from embedded.errors import EmbeddedError

MIB = 1 << 20
CONFIGS = {
    "edit": 'backend: "python"',
    "preprocess": 'backend: "python"\ninstance_group [ { kind: KIND_CPU count: 3 } ]',
    "denoiser": 'max_batch_size: 8\nbackend: "openvino"',
    "engine": 'backend: "tensorrt"',
    "render": 'platform: "ensemble"',
}


@pytest.fixture
def repository(tmp_path):
    for name, config in CONFIGS.items():
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(config)
    with (tmp_path / "denoiser" / "1" / "model.bin").open("wb") as weights:
        weights.truncate(500 * MIB)
    return tmp_path


@pytest.fixture
def room(monkeypatch, tmp_path_factory):
    """Gives so much shared memory, memory, and memory of a container (None: no container), in MiB.

    Of what the container has `used`, `files` are pages of files.
    """
    folder = tmp_path_factory.mktemp("system")

    def give(shm=10_000, free=100_000, limit=None, used=0, files=1):
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=shm, f_frsize=MIB))
        (folder / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:  {free * 1024} kB\n")
        monkeypatch.setattr(machine, "MEMINFO", folder / "meminfo")
        if limit is not None:
            (folder / "memory.max").write_text(f"{limit if limit == 'max' else limit * MIB}\n")
            (folder / "memory.current").write_text(f"{used * MIB}\n")
            (folder / "memory.stat").write_text(f"anon 1\nactive_file {MIB}\ninactive_file {(files - 1) * MIB}\n")
        (folder / "own").write_text("0::/\n")
        monkeypatch.setattr(machine, "CGROUP", folder)
        monkeypatch.setattr(machine, "OWN", folder / "own")

    return give


def test_shared_memory_is_for_each_python_process(repository, room):
    room(shm=40)
    assert memory.python_processes(repository) == 5
    assert memory.shared_memory_missing(repository, 8 * MIB) == ""
    room(shm=39)
    line = memory.shared_memory_missing(repository, 8 * MIB)
    assert line.startswith("/dev/shm has 39 MiB left, and Triton's 5 Python processes need 40 MiB to start: ")
    assert "TRITOUCH_SHM=2gb" in line
    assert "\n" not in line
    room(shm=79)
    assert "Triton's 10 Python processes need 80 MiB" in memory.shared_memory_missing(repository, 8 * MIB, servers=2)


def test_too_little_shared_memory_is_refused_before_anything_starts(repository, room):
    room(shm=1)
    with pytest.raises(EmbeddedError, match=r"^/dev/shm has 1 MiB left"), serve(repository, gateway=False):
        pass


@pytest.mark.parametrize(
    ("given", "free"),
    [
        ({"free": 800}, None),
        ({"free": 799}, 799),
        ({"free": 799, "limit": "max"}, 799),
        ({"limit": 1000, "used": 301}, 700),
        ({"limit": 2000, "used": 300}, None),
        ({"limit": 1000, "used": 900, "files": 600}, 700),
        ({"limit": 1000, "used": 900, "files": 700}, None),
    ],
)
def test_memory_that_the_weights_will_hardly_fit_into_is_told(repository, room, given, free):
    room(**given)
    line = memory.memory_short(repository)
    expected = "" if free is None else f"{free} MiB of memory are available, and this repository takes 800 MiB"
    assert line.startswith(expected)
    assert bool(line) == bool(expected)


def test_each_of_several_tritons_has_the_weights(repository, room):
    room(free=1599)
    assert memory.memory_short(repository) == ""
    assert "this repository takes 1600 MiB" in memory.memory_short(repository, servers=2)
