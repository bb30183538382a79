"""Every family's tiny checkpoint, exported in exact arithmetic and served, one family after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from embedded.server import serve
from tests.conftest import ROOT, run_export
from tests.families import tiny
from tests.server.asking import Client


@dataclass(frozen=True)
class Served:
    """A family that answers. `kit`: its `tiny` module."""

    name: str
    kit: ModuleType
    checkpoint: Path
    repository: Path
    client: Client


def export(name: str, checkpoint: Path, repository: Path, *flags: str) -> str:
    """Exports small, in fp32, without adapters unless `flags` say so. Returns what was printed."""
    done = run_export(checkpoint, repository, *tiny.module(name).FLAGS, *flags, routes={})
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """The family that the test is parametrized with, by its name."""
    name: str = request.param
    checkpoint, repository = tiny.checkpoint(name), ROOT / "build" / "test-families" / name
    kit = tiny.module(name)
    adapters = [f"--adapter={route}={file}:{scale}" for route, (file, scale) in kit.adapters(checkpoint).items()]
    export(name, checkpoint, repository, *adapters)
    with serve(repository, port=0) as running:
        yield Served(name, kit, checkpoint, repository, Client(running))
