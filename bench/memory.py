"""Resident memory of the whole stack beside the diffusers process, which holds the same checkpoint.

    python -m bench memory [--checkpoint demo|full] [--side N] [--edits N] [--results DIR]

What counts is the proportional set size, summed over a process and all its descendants: a page that several of them
share counts once, and a file's pages count while they are mapped. Each subject runs alone and makes the same edits; it
is looked at five times a second meanwhile, and once more when it has had nothing to do for a while.
"""

import multiprocessing
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from rich.progress import track

from bench import edits, report
from bench.setups import SETUPS, Setup
from embedded.server import serve

LOOK_SECONDS = 0.2
REST_SECONDS = 3.0
GIB = 1 << 30


@dataclass
class Subject:
    """One server or process. `parts`: GiB at rest by process, largest first."""

    name: str
    most_gib: float = 0.0
    rest_gib: float = 0.0
    seconds: float = 0.0
    parts: list[tuple[str, float]] = field(default_factory=list)


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(int(entry.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def proportional(pid: int) -> float:
    """A process's proportional set size in GiB; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 / GIB for line in lines if line.startswith("Pss:"))


def title(pid: int) -> str:
    """What a process is, by its command line: the model of a Python model's process, else the program."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    if words[0].endswith("triton_python_backend_stub"):
        return Path(words[1]).parents[1].name
    return words[2] if words[1:2] == ["-m"] else Path(words[0]).name


@contextmanager
def watched(subject: Subject, roots: Callable[[], list[int]]) -> Iterator[None]:
    """Looks at the trees of `roots` until the block ends, then at what is left at rest."""
    stop = threading.Event()

    def pids() -> list[int]:
        return [pid for root in roots() for pid in tree(root)]

    def look() -> None:
        while not stop.wait(LOOK_SECONDS):
            subject.most_gib = max(subject.most_gib, sum(map(proportional, pids())))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    time.sleep(REST_SECONDS)
    parts = [(title(pid), proportional(pid)) for pid in pids()]
    subject.parts = sorted(parts, key=lambda part: -part[1])
    subject.rest_gib = sum(size for _, size in parts)
    subject.most_gib = max(subject.most_gib, subject.rest_gib)


def diffusers_process(checkpoint: Path, precision: str, asked: list[edits.Edit], made: Any, over: Event) -> None:
    """What runs in the diffusers process: load, make the edits, tell how long one took, wait."""
    from bench import rivals  # noqa: PLC0415 - imports torch, which only this process may hold

    loaded = rivals.pipeline(checkpoint, precision)
    seconds = []
    for edit in asked:
        began = time.perf_counter()
        rivals.directly(loaded, edit)
        seconds.append(time.perf_counter() - began)
    made.put(statistics.median(seconds))
    over.wait()


def of_diffusers(setup: Setup, precision: str, asked: list[edits.Edit]) -> Subject:
    """The diffusers process."""
    subject, spawn = Subject(f"diffusers {precision}"), multiprocessing.get_context("spawn")
    made, over = spawn.Queue(), spawn.Event()
    process = spawn.Process(
        target=diffusers_process, args=(setup.checkpoint(), precision, asked, made, over), daemon=True
    )
    process.start()
    with watched(subject, lambda: [process.pid or 0]):
        subject.seconds = made.get()
    over.set()
    process.join()
    return subject


def of_tritouch(setup: Setup, asked: list[edits.Edit]) -> Subject:
    """Triton with all its processes, the gateway, and their supervisors."""
    subject, seconds = Subject("Tritouch"), []
    with serve(setup.repository(), port=0) as server:
        mine = os.getpid()

        def supervisors() -> list[int]:
            return [pid for pid in tree(mine) if b"supervisor.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]

        with watched(subject, supervisors):
            for edit in asked:
                began = time.perf_counter()
                edits.through_gateway(server.http_url, edit)
                seconds.append(time.perf_counter() - began)
    subject.seconds = statistics.median(seconds)
    return subject


def main() -> int:
    """Measures, prints and writes."""
    parser = report.parser(__doc__)
    parser.add_argument("--checkpoint", choices=tuple(SETUPS), default="full")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--edits", type=int, default=3)
    options = parser.parse_args()
    setup = SETUPS[options.checkpoint]
    asked = list(islice(edits.series(options.side, 2, setup.guidance), options.edits))
    print(f"three subjects, each {options.edits} edits of 2 steps: a few minutes at full size")
    measures: tuple[Callable[[], Subject], ...] = (
        partial(of_tritouch, setup, asked),
        partial(of_diffusers, setup, "fp32", asked),
        partial(of_diffusers, setup, "bf16", asked),
    )
    subjects: list[Subject] = []
    try:
        subjects.extend(measure() for measure in track(measures, "memory"))
    except KeyboardInterrupt:
        print("interrupted: keeping what was measured", file=sys.stderr)
    for subject in subjects:
        print(f"{subject.name:<16}at rest {subject.rest_gib:5.2f} GiB, at most {subject.most_gib:5.2f} GiB")
        for name, size in subject.parts:
            print(f"    {name:<24}{size:6.2f}")
    if subjects:
        metrics = {"setup": setup.name, "side": options.side, "subjects": [asdict(subject) for subject in subjects]}
        report.save(options.results, "memory", metrics)
    return 0 if len(subjects) == len(measures) else 130


if __name__ == "__main__":
    sys.exit(main())
