"""The servers that tests of a whole edit share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.collector import Collector, collecting
from embedded.server import Embedded, serve
from embedded.settings import Settings
from gateway.collector import DELAY, ENDPOINT
from tests.server.asking import Client, eventually
from tests.server.faults import Faults


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[Embedded]:
    """Triton and the gateway on the tiny checkpoint's repository. Tests leave it as they found it."""
    with serve(repository, port=0, settings=Settings(triton_http_port=0)) as running:
        yield running


@pytest.fixture
def client(server: Embedded) -> Client:
    """Asks that server for edits."""
    return Client(server)


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Has the spans of the server that can be slow or failing."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="session")
def faulty_server(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[tuple[Embedded, Faults]]:
    """The same repository with a denoiser that can be slow or failing; 3 edits in flight, a short grace, traces."""
    faults = Faults(tmp_path_factory.mktemp("faulty"), repository)
    settings = {"TRITOUCH_MAX_JOBS": "3", "TRITOUCH_ORPHAN_GRACE_SECONDS": "0.1"}
    settings |= {ENDPOINT: collector.endpoint, DELAY: "100"}
    with serve(faults.repository, port=0, env=settings) as running:
        yield running, faults


@pytest.fixture
def faulty(faulty_server: tuple[Embedded, Faults]) -> Iterator[tuple[Client, Faults]]:
    """Asks that server; its denoiser is quick and well before and after."""
    running, faults = faulty_server
    faults.set()
    client = Client(running)
    assert eventually(lambda: client.figure("tritouch_edits_in_flight") == 0)
    yield client, faults
    faults.set()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses a server is marked so."""
    here = os.path.dirname(__file__)  # noqa: PTH120
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.server)
