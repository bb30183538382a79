"""Every family's tiny checkpoint, exported in exact arithmetic and served, one family after the other."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from embedded.server import serve
from families.settings import Settings
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

    @property
    def settings(self) -> Settings:
        """What its export says."""
        return Settings.read(self.repository / "edit_stream" / "1" / "pipeline")


def export(name: str, checkpoint: Path, repository: Path, *flags: str, strength: float = 1.0) -> None:
    """Exports small, with the family's adapters, in fp32 unless `flags` say otherwise. `strength`: of the adapters."""
    kit = tiny.module(name)
    files = kit.adapters(tiny.checkpoint(name)).items()
    adapters = [f"{route}={file}:{strength * scale}" for route, (file, scale) in files]
    given = (*kit.FLAGS, *(f"--adapter={adapter}" for adapter in adapters), *flags)
    done = run_export(checkpoint, repository, *given, routes={})
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """The family that the test is parametrized with, by its name."""
    name: str = request.param
    checkpoint, repository = tiny.checkpoint(name), ROOT / "build" / "test-families" / name
    export(name, checkpoint, repository)
    with serve(repository, port=0) as running:
        yield Served(name, tiny.module(name), checkpoint, repository, Client(running))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses a server is marked so."""
    here = os.path.dirname(__file__)  # noqa: PTH120
    for item in items:
        if str(item.path).startswith(here) and {"served", "server", "client"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)
