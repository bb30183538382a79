"""One event loop, one fake Triton and one gateway for all tests of this folder; the script is reset for each."""

from collections.abc import Iterator

import pytest
import structlog

from tests.gateway.fake_triton import FakeTriton
from tests.gateway.serving import Gateway, Loop, serving, unhurried


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    """Keep the gateway's log lines, which go to standard output, out of pytest's."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


@pytest.fixture(scope="session", autouse=True)
def _unhurried() -> Iterator[None]:
    with unhurried():
        yield


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def _triton(loop: Loop) -> Iterator[FakeTriton]:
    triton = FakeTriton()
    loop.run(triton.start())
    yield triton
    loop.run(triton.stop())


@pytest.fixture
def triton(_triton: FakeTriton) -> FakeTriton:
    """The fake Triton, with nothing scripted and nothing recorded."""
    _triton.reset()
    return _triton


@pytest.fixture(scope="session")
def _gateway(loop: Loop, _triton: FakeTriton) -> Iterator[Gateway]:
    with serving(loop, _triton) as gateway:
        yield gateway


@pytest.fixture
def gateway(_gateway: Gateway, triton: FakeTriton) -> Gateway:
    """A gateway with the settings' defaults, but for its patience, in front of `triton`."""
    return _gateway
