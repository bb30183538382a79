"""Every family's tiny checkpoint, exported in exact arithmetic and served, one family after the other."""

import functools
import os
import shutil
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


@functools.cache
def exported(kit: str) -> Path:
    """The kit's repository, kept between runs and up to date. Tests leave it as it is."""
    repository = ROOT / "build" / "test-families" / kit
    if kit in tiny.VARIANTS:  # the networks are its family's: so are the engines
        shutil.rmtree(repository, ignore_errors=True)
        copied(tiny.family(kit), repository)
    export(kit, tiny.checkpoint(kit), repository)
    return repository


def copied(kit: str, folder: Path) -> Path:
    """A copy of the kit's repository in `folder` (must not exist), where an export makes what is another alone."""
    return Path(shutil.copytree(exported(kit), folder, symlinks=True))


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """The family that the test is parametrized with, by its name."""
    name: str = request.param
    repository = exported(name)
    with serve(repository, port=0) as running:
        yield Served(name, tiny.module(name), tiny.checkpoint(name), repository, Client(running))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses a server is marked so."""
    here = os.path.dirname(__file__)  # noqa: PTH120
    for item in items:
        if str(item.path).startswith(here) and {"served", "server", "client"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)
