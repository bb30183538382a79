"""What the tests of a fleet share: the tools, the chart as it is rendered for them."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fleet.envoy import running
from tests.fleet.fleet import Fleet, gateway
from tests.fleet.tools import Tools, UnavailableError, fetched
from tests.server.faults import Faults

CHART = ROOT / "deploy" / "chart"
REQUIRED = "TRITOUCH_REQUIRE_FLEET"
"""Where this is set, a machine that cannot have the tools fails these tests instead of skipping them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies here needs the tools of a fleet."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.fleet)


@pytest.fixture(scope="session")
def tools() -> Iterator[Tools]:
    """helm, Envoy, Prometheus and schemas; where they cannot be had, all tests are one skipped line, which says why."""
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    with (folder / "fleet.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield fetched()
        except UnavailableError as error:
            (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(f"no fleet can be run here: {error}")


@pytest.fixture(scope="session")
def fleet(tools: Tools, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three replicas behind Envoy and a gateway. Connections last 5 s, so that some end under load all the time."""
    folder = tmp_path_factory.mktemp("fleet")
    documents = tools.render(CHART, "--set", "envoy.connectionSeconds=5")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with ExitStack() as stack:
        envoy = stack.enter_context(running(tools, folder, documents))
        made = Fleet(envoy, Faults(folder, repository), stack)
        made.enter(*made.start(3))
        made.gateway = stack.enter_context(gateway(envoy, documents, folder))
        yield made
