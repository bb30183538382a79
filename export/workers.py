"""Makes components in processes of their own, two at once where they are small: tracing keeps one processor busy.

One that crashes, or that the system kills, ends the export with one line.
"""

import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from backends.gpu import find_gpu
from backends.machine import processors
from export.adapters import Source, read_bank
from export.bars import lock_bars_by_threads
from export.checkpoint import Checkpoint, hide_bars, weight_files
from export.component.build import Builder, Make
from export.engines import load as load_engine
from export.errors import ExportError
from export.report import Bar, Report
from export.store import Store
from families import load, preview_decoder, safety_checker

if TYPE_CHECKING:
    from families.interface import Component, Modules
    from families.parts.lora import Layers

TOGETHER_BYTES = 2 << 30
"""Weights of a whole checkpoint up to which two components are made at once: beyond, memory weighs more than time."""

LISTEN_SECONDS = 0.1
GONE_SECONDS = 30.0
"""How long a process that was ended may take to be gone, on a busy machine."""
COPIED, ANEW = "forkserver", "spawn"


def method() -> str:
    """How the processes come about that make components, as `multiprocessing` names it.

    As copies of one that has imported what takes seconds, which then costs nothing. Beside a GPU each imports it anew:
    libraries ask for CUDA when they are imported, and the copies of a process that has asked cannot use it.
    """
    return ANEW if find_gpu() else COPIED


def begin(family: str) -> None:
    """Imports what components are made with, in a process of its own, while the export still looks at its input."""
    if method() == COPIED:
        multiprocessing.get_context(COPIED).set_forkserver_preload(["export.workers", f"families.{family}.modules"])
        forkserver.ensure_running()


@dataclass(frozen=True)
class Job:
    """What all components of an export have in common."""

    checkpoint: Checkpoint
    engine: str
    targets: tuple[str, ...]
    adapters: tuple[Source, ...]
    layers: "Layers"
    store: Store
    samples: Path
    """Of what is calibrated: `export.trial`."""
    on_gpu: bool
    """Whether engines are timed or compared on this machine's GPU, which one at a time should have for itself."""


def build(job: Job, makes: Sequence[Make], report: Report) -> None:
    """Adds every component to the store.

    Raises the first failure, ExportError or families.errors.BadCheckpointError.
    """
    if not makes:
        return
    context = multiprocessing.get_context(method())
    said = context.SimpleQueue()
    with report.progress({make.component.name: make.stages for make in makes}) as bars, _listening(said, bars):
        pool = ProcessPoolExecutor(together(job, makes), context, _begin, (job, said))
        try:
            _wait({pool.submit(_make, make): make for make in sorted(makes, key=_weight(job), reverse=True)})
            pool.shutdown()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _end(multiprocessing.active_children())
            raise


def _end(processes: Sequence[BaseProcess]) -> None:
    """Ends them, and waits until they are gone: what they leave unfinished is swept next, and must not come later."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GONE_SECONDS)


def _wait(futures: Mapping["Future[None]", Make]) -> None:
    for future in as_completed(futures):
        try:
            future.result()
        except BrokenProcessPool as error:
            why = "a process that made components was killed or crashed (is there enough memory?)"
            raise ExportError(f"{futures[future].component.name}: {why}; nothing was installed") from error


def together(job: Job, makes: Sequence[Make]) -> int:
    """How many components are made at once."""
    files = {file for make in makes for file in weight_files(job.checkpoint.path / make.component.weights)}
    small = sum(file.stat().st_size for file in files) <= TOGETHER_BYTES
    return min(len(makes), 2, processors()) if small and not job.on_gpu else 1


def _weight(job: Job) -> Any:
    """Longest first: by the bytes of a component's weights, and a denoiser before all."""

    def key(make: Make) -> tuple[bool, int]:
        files = weight_files(job.checkpoint.path / make.component.weights)
        return make.component.role == "denoiser", sum(file.stat().st_size for file in files)

    return key


@contextmanager
def _listening(said: Any, bars: Mapping[str, Bar]) -> Iterator[None]:
    """Moves the bars by what the processes say, until the block ends.

    Nothing here waits for them: one that was killed may have held the queue, or said half a word.
    """
    over = threading.Event()

    def listen() -> None:
        while not over.wait(LISTEN_SECONDS):
            while not said.empty():
                name, stage, done = said.get()
                if stage is None:
                    bars[name].part(done)
                else:
                    bars[name](stage)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=1.0)


# --- What runs in the processes ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Said:
    """A bar whose drawing is elsewhere."""

    said: Any
    name: str

    def __call__(self, stage: str) -> None:
        self.said.put((self.name, stage, 0.0))

    def part(self, done: float) -> None:
        self.said.put((self.name, None, done))


_own: dict[str, Any] = {}


def _end_with_the_export() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _begin(job: Job, said: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the export ends its processes itself
    threading.Thread(target=_end_with_the_export, daemon=True).start()  # and here is what holds when it is killed
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    hide_bars()
    lock_bars_by_threads()
    modules = cast("Modules", load(job.checkpoint.family, "modules"))
    engine, bank = load_engine(job.engine, job.targets), read_bank(job.checkpoint, job.adapters, job.layers)
    builder = Builder(job.checkpoint, modules, engine, bank, job.store.caches, job.samples)
    _own.update(store=job.store, said=said, builder=builder)


def _builder(builder: Builder, component: "Component") -> Builder:
    """The same, or another for what no family has, which is of another checkpoint."""
    beside = {safety_checker.NAME: Path(component.weights).parent, preview_decoder.NAME: Path(component.weights)}
    if component.name not in beside:
        return builder
    modules = cast("Modules", import_module(f"families.{component.name}.modules"))
    return replace(builder, modules=modules, checkpoint=replace(builder.checkpoint, path=beside[component.name]))


def _make(make: Make) -> None:
    store, builder = _own["store"], _builder(_own["builder"], make.component)
    with store.building(make.component.name, make.fingerprint) as folder:
        bar = _Said(_own["said"], make.component.name)
        builder.build(make, folder, bar)
    bar("")
