"""What the tests share: a tiny checkpoint, its repository in exact arithmetic, and one running server."""

import gc
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
EXPORT = [sys.executable, "-m", "export", "--engine", "openvino", "--precision", "fp32"]
SMALL = ["--max-pixels", str(256 * 256), "--max-batch", "8", "--guidance-when-zero", "1"]
FAMILY = "instruct_pix2pix"
"""Whose tiny checkpoint stands for all where a test is not about families."""
ADAPTERS = ROOT / "build" / "test-adapters"
ROUTES = {"ink": "ink:0.7", "kohya": "kohya.safetensors", "oil": "oil:1", "settings": "settings:-0.5"}
"""The adapters of the tiny checkpoint's repository, as `tests.loras.write` leaves them: file and scale by route."""

os.environ["HF_HUB_OFFLINE"] = "1"
# Of tiny tensors torch's threads mostly wait for each other, and busily: three times the processor time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# How long an example takes, to be drawn or to be run, is the machine's: no test fails of it.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
gc.disable()  # while modules are imported, which stay: looked through time and again they would double that time
logging.getLogger("transformers").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Shared:
    """A repository that tests share and leave as it is; kept between runs: an export skips what is up to date.

    `checkpoint`: the tiny one if None.
    """

    folder: Path
    flags: tuple[str, ...] = ()
    routes: Mapping[str, str] = field(default_factory=dict)
    checkpoint: Path | None = None


TARGETS = ["8.9", "12.0"]
"""The compute capabilities that TensorRT for RTX compiles for in tests."""
RTX = ("--engine", "tensorrt_rtx", "--compute-capability", ",".join(TARGETS), "--precision", "fp16")
SHARED = {
    "repository": Shared(ROOT / "build" / "test-repository", routes=ROUTES),
    "rtx_repository": Shared(ROOT / "build" / "test-rtx-repository", RTX, {"kohya": ROUTES["kohya"]}),
    "demo_repository": Shared(
        ROOT / "build" / "test-demo-repository", ("--max-batch", "3"), checkpoint=ROOT / "demo" / "checkpoint"
    ),
}
"""By the name of their fixture."""


def export_command(checkpoint: Path, repository: Path, *flags: str, routes: Mapping[str, str] = ROUTES) -> list[str]:
    """`python -m export` as a user runs it; in fp32, small and with the adapters of `ROUTES` unless told otherwise."""
    command = [*EXPORT, *SMALL, "--model", str(checkpoint), "--repository", str(repository), *flags]
    return command + [f"--adapter={route}={ADAPTERS / source}" for route, source in routes.items()]


def run_export(
    checkpoint: Path, repository: Path, *flags: str, routes: Mapping[str, str] = ROUTES
) -> subprocess.CompletedProcess[str]:
    """That command, run."""
    command = export_command(checkpoint, repository, *flags, routes=routes)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """The tiny checkpoint; its adapters are written too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tests import loras
        from tests.families import tiny

        folder = tiny.checkpoint(FAMILY)
        loras.keep(folder, ADAPTERS)
        return folder


@pytest.fixture(scope="session", autouse=True)
def exports(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Path]]]:
    """The repositories that this session's tests share, by fixture name, being exported while other tests run."""
    running: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(1) as worker:
        wanted = [name for name in SHARED if any(name in _fixtures(item) for item in request.session.items)]
        checkpoint = request.getfixturevalue("checkpoint") if wanted else Path()
        yield {name: worker.submit(_export, SHARED[name], checkpoint, running) for name in wanted}
        worker.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()


def _export(shared: Shared, checkpoint: Path, running: list[subprocess.Popen[str]]) -> Path:
    command = export_command(shared.checkpoint or checkpoint, shared.folder, *shared.flags, routes=shared.routes)
    with subprocess.Popen(["nice", *command], cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) as process:
        running.append(process)
        message = process.communicate()[1]
    assert process.returncode == 0, message
    return shared.folder


@pytest.fixture(scope="session")
def repository(exports: Mapping[str, Future[Path]]) -> Path:
    """The tiny checkpoint's repository: OpenVINO, fp32, at most 256 x 256 pixels, 8 rows, a bank of four adapters."""
    return exports["repository"].result()


@pytest.fixture(scope="session")
def rtx_repository(exports: Mapping[str, Future[Path]]) -> Path:
    """The tiny checkpoint, with a small bank, compiled by TensorRT for RTX for two compute capabilities in fp16."""
    return exports["rtx_repository"].result()


@pytest.fixture(scope="session")
def demo_repository(exports: Mapping[str, Future[Path]]) -> Path:
    """The demo checkpoint in fp32 with OpenVINO, for three rows."""
    return exports["demo_repository"].result()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that wait for no export go first; those that do are slow, and marked."""
    for item in items:
        if SHARED.keys() & set(_fixtures(item)):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.exported)
    items.sort(key=lambda item: [name in _fixtures(item) for name in reversed(SHARED)])


def pytest_collection_finish() -> None:
    """No collection of garbage looks through what has been imported: half a second for each that a test asks for."""
    gc.freeze()
    gc.enable()


def _fixtures(item: pytest.Item) -> Sequence[str]:
    return getattr(item, "fixturenames", ())


@pytest.fixture
def cycles_stay() -> Iterator[None]:
    """What is in a cycle of references is not looked for: all else goes when the last reference does."""
    looked = gc.isenabled()
    gc.disable()
    yield
    if looked:
        gc.enable()
