"""One engine, the project's images, and the stack that the tests share; built once, kept in build/ between runs."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ADAPTERS, ROOT
from tests.containers import images
from tests.containers.engine import Engine, unavailable
from tests.containers.stack import Stack

FOLDER = ROOT / "build" / "containers"
REQUIRED = "TRITOUCH_REQUIRE_CONTAINERS"
"""Where this is set, a machine that cannot run containers fails these tests instead of skipping them."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whatever lies here runs in containers, what removes them last; or one is skipped for all, which says why."""
    ours = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    for item in ours:
        item.add_marker(pytest.mark.containers)
    items.sort(key=lambda item: item.path.name == "test_removal.py")
    if ours and not os.environ.get(REQUIRED) and (reason := unavailable()):
        ours[0].add_marker(pytest.mark.skip(f"containers cannot run here: {reason} ({len(ours)} tests)"))
        config.hook.pytest_deselected(items=ours[1:])
        items[:] = [item for item in items if item not in ours[1:]]


@pytest.fixture(scope="package")
def engine() -> Iterator[Engine]:
    """A running engine; the tests that use it are in its network."""
    if reason := unavailable():
        pytest.fail(f"containers cannot run here: {reason}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        engine = Engine(FOLDER)
        engine.unpack()
        with engine.running(), engine.entered():
            yield engine


@pytest.fixture(scope="package")
def stack(engine: Engine, checkpoint: Path) -> Iterator[Stack]:
    """This checkout's images, built, and nothing started; nothing is left of an earlier run but layers."""
    images.build_standins(engine)
    checkpoints = FOLDER / "checkpoints"
    shutil.rmtree(checkpoints, ignore_errors=True)
    shutil.copytree(checkpoint, checkpoints / "tiny")
    shutil.copytree(ADAPTERS, checkpoints / "adapters")
    for path in [checkpoints, *checkpoints.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    stack = Stack(engine, images.lay_out(FOLDER / "tree"), checkpoints)
    stack.set()
    stack.compose("--profile", "*", "down", "--volumes", "--timeout=5")
    stack.compose("--profile", "*", "build", *images.SERVICES)
    engine.docker("image", "prune", "--force")
    yield stack
    stack.compose("--profile", "*", "down", "--volumes", "--timeout=5")


@pytest.fixture(scope="package")
def serving(stack: Stack) -> Stack:
    """The stack after `docker compose up gateway-cpu`. Tests leave it serving."""
    stack.compose("up", "--no-build", "--detach", "--wait", "--wait-timeout=900", "gateway-cpu")
    return stack
