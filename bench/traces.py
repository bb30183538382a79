"""What traces cost, and what one looks like: the same edits untraced and traced, and the spans of one of them.

    python -m bench traces [--edits N] [--steps N] [--side N] [--repository DIR]

Two stacks run side by side on stub engines, whose zeros come at once, one of them with a collector. They are asked in
turns, so that what else the machine does falls on both. What counts is the processor time of all their processes, for
waiting costs none, and by how much longer an edit took with spans than the one beside it without. The drawing is of an
edit by the demo's own engines.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from rich.progress import track

from bench import edits, report, stub_engines
from bench.collector import Collector, Span, collecting
from bench.setups import SETUPS
from embedded.server import Embedded, serve

WARM_UP = 12
"""Edits before the first that counts, of each stack."""
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
GATHERED = 6.0
"""Seconds after which the last spans are sent."""
DRAWN_STEPS = 4
WIDTH = 40
"""Characters of the drawing's longest bar."""


def children() -> Iterator[Path]:
    """The folder in `/proc` of every process below this one."""
    above = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            above[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    for number in above:
        one = number
        while one in above and one != os.getpid():
            one = above[one]
        if one == os.getpid() != number:
            yield Path("/proc", str(number))


def processor_seconds(*, traced: bool) -> float:
    """Of all processes that serve, with a collector or without one."""
    ticks = 0
    for folder in children():
        with suppress(OSError):
            if (ENDPOINT.encode() in (folder / "environ").read_bytes()) == traced:
                user, system = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
                ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def seconds(server: Embedded, edit: edits.Edit) -> float:
    """Of one edit, to its caller."""
    content = edits.body(edit, "jpeg", "JPEG")
    began = time.perf_counter()
    edits.post(f"{server.http_url}/v1/images/edits", content)
    return time.perf_counter() - began


@dataclass(frozen=True)
class Cost:
    """Seconds of each edit, and processor seconds of all: untraced and traced."""

    edits: list[tuple[float, float]]
    processor: tuple[float, float]


def cost(repository: Path, asked: Sequence[edits.Edit], collector: Collector) -> Cost:
    """Of these edits, made by two stacks in turns."""
    with ExitStack() as stack:
        plain = stack.enter_context(serve(repository, port=0))
        traced = stack.enter_context(serve(repository, port=0, env={ENDPOINT: collector.endpoint}))
        for server in (plain, traced):
            for edit in asked[:WARM_UP]:
                seconds(server, edit)
        before = [processor_seconds(traced=which) for which in (False, True)]
        found = []
        for number, edit in enumerate(track(asked, "edits")):
            first, second = (plain, traced) if number % 2 else (traced, plain)
            took = {id(first): seconds(first, edit), id(second): seconds(second, edit)}
            found.append((took[id(plain)], took[id(traced)]))
        time.sleep(GATHERED)
        spent = [processor_seconds(traced=which) - before[which] for which in (False, True)]
    return Cost(found, (spent[0], spent[1]))


def one(repository: Path, asked: Sequence[edits.Edit], collector: Collector) -> list[Span]:
    """The spans of the last edit."""
    with serve(repository, port=0, env={ENDPOINT: collector.endpoint}) as server:
        for edit in asked:
            seconds(server, edit)
    roots = [span for span in collector.spans if not span.parent]
    return collector.of(max(roots, key=lambda span: span.start).trace)


def drawing(spans: Sequence[Span]) -> Iterator[str]:
    """A line for each span, below the one that it is a part of, with a bar where it lies in time."""
    began, ended = spans[0].start, max(span.end for span in spans)
    scale = WIDTH / (ended - began)

    def lines(span: Span, depth: int) -> Iterator[str]:
        first = round((span.start - began) * scale)
        length = max(1, round((span.end - began) * scale) - first)
        bar = (" " * min(first, WIDTH - 1) + "=" * length).ljust(WIDTH)
        name = "  " * depth + span.name
        yield f"{span.service:<24}{name:<26}|{bar}|{(span.end - span.start) / 1e6:8.1f} ms"
        for below in spans:
            if below.parent == span.id:
                yield from lines(below, depth + 1)

    yield from lines(spans[0], 0)


def main() -> int:
    """Measures and prints."""
    parser = report.parser(__doc__)
    parser.add_argument("--repository", type=Path, help="one that was exported already")
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, default=256, help="pixels")
    options = parser.parse_args()
    repository = options.repository or SETUPS["demo"].repository()
    asked = list(islice(edits.series(options.side, options.steps, 0), options.edits))
    with collecting() as collector, tempfile.TemporaryDirectory() as scratch:
        found = cost(stub_engines.repository(repository, Path(scratch)), asked, collector)
    spans = len(collector.spans) / (len(asked) + WARM_UP)
    print(f"{len(asked)} edits of {options.steps} steps, {spans:.0f} spans each, stub engines:")
    plain, traced = (1e3 * spent / len(asked) for spent in found.processor)
    print(f"processor time of an edit: {plain:.1f} ms, with spans {traced:.1f} ms, {traced - plain:+.1f} ms")
    first, middle, third = statistics.quantiles([1e3 * (traced - plain) for plain, traced in found.edits], n=4)
    print(f"an edit, to its caller: {1e3 * statistics.median(plain for plain, _ in found.edits):.1f} ms, ", end="")
    print(f"with spans {middle:+.1f} ms (the median; {first:+.1f} to {third:+.1f}, the quartiles)")
    with collecting() as collector:
        drawn = [replace(edit, steps=DRAWN_STEPS) for edit in asked[:WARM_UP]]
        print(*drawing(one(repository, drawn, collector)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
