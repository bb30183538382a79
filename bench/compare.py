"""Tritouch beside what its user would run instead: the same checkpoint, pictures, sentences, steps and seeds.

    make rivals                     # once, for those that have environments of their own
    python -m bench compare [CASE ...] [--rounds N] [--engine KIND] [--precision PRECISION] [--rivals DIR]
                            [--results DIR]

Sides: diffusers' pipeline in fp32 and in the narrow type (bf16 on processors that have it, on a GPU fp16), a plain
FastAPI server around the narrow one, and Tritouch over HTTP; on a GPU the narrow one with torch.compile, too; and what
`make rivals` has installed. They take turns within each round, each round has another picture, sentence and seed, and
another side begins it. What a side does first is not counted.
Ratios are taken within a round. PSNR is to the fp32 picture of the same round. At the end Tritouch with fp32 engines
makes the same pictures again: its seconds are not of the same minutes, and its pictures are held to the same ones.
"""

import gc
import itertools
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import track

from bench import edits, installed, report
from bench.edits import Edit, Pixels
from bench.setups import KLEIN_BLOCKS, SETUPS, Setup
from embedded.server import serve

REFERENCE = "diffusers fp32"
OURS, EXACT = "Tritouch", "Tritouch, fp32 engines"
Side = Callable[[Edit], Pixels]
CHECKPOINTS = {**SETUPS, KLEIN_BLOCKS.name: KLEIN_BLOCKS}


@dataclass(frozen=True)
class Case:
    """Edits of one checkpoint at one size. `guidance`: the text scale; above 1 a step has 3 rows, else one."""

    name: str
    setup: str
    side: int
    steps: int
    rounds: int
    guidance: float


CASES = (
    Case("demo-256", "demo", 256, 20, 7, 1.0),
    Case("full-256", "full", 256, 10, 5, 1.0),
    Case("full-256-guided", "full", 256, 4, 5, 7.5),
    Case("full-512-guided", "full", 512, 1, 3, 7.5),
    Case("klein-256", "klein-blocks", 256, 4, 5, 1.0),
)


@dataclass
class Column:
    """What one side did, round by round; `psnr` in dB, empty for the reference itself."""

    seconds: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)


class Comparison:
    """The rounds of one case. Everything measured so far stays when it is interrupted.

    `own_noise`: sides whose pictures are no likeness of the others'.
    """

    def __init__(self, case: Case, own_noise: Collection[str] = ()) -> None:
        self.case = case
        self._own_noise = set(own_noise)
        self.columns = {REFERENCE: Column()}
        self._references: list[Pixels] = []

    def _edits(self) -> list[Edit]:
        """One to warm up with, and one for each round."""
        endless = edits.series(self.case.side, self.case.steps, self.case.guidance)
        return list(itertools.islice(endless, self.case.rounds + 1))

    def run(self, sides: Mapping[str, Side]) -> None:
        """All rounds."""
        self.columns = {name: Column() for name in sides}
        warm, *rounds = self._edits()
        began = time.monotonic()
        for side in track(sides.values(), f"{self.case.name}: warming up"):
            side(warm)
        minutes = (time.monotonic() - began) * len(rounds) / 60
        print(f"{self.case.name}: {len(rounds)} rounds of {len(sides)} sides, about {minutes:.1f} minutes")
        names = list(sides)
        turns = [
            (edit, name) for n, edit in enumerate(rounds) for name in names[n % len(names) :] + names[: n % len(names)]
        ]
        pictures: dict[str, Pixels] = {}
        for edit, name in track(turns, self.case.name):
            pictures[name] = self._timed(name, sides[name], edit)
            if len(pictures) == len(names):
                self._compare(pictures)
                pictures = {}

    def _compare(self, pictures: Mapping[str, Pixels]) -> None:
        """At the end of a round."""
        self._references.append(pictures[REFERENCE])
        for name in set(pictures) - {REFERENCE} - self._own_noise:
            self.columns[name].psnr.append(edits.psnr(pictures[name], pictures[REFERENCE]))

    def again(self, name: str, side: Side) -> None:
        """The same pictures once more, by a side that found no room beside the others."""
        self.columns[name] = Column()
        warm, *rounds = self._edits()
        side(warm)
        for number, edit in enumerate(track(rounds, name)):
            picture = self._timed(name, side, edit)
            self.columns[name].psnr.append(edits.psnr(picture, self._references[number]))

    def _timed(self, name: str, side: Side, edit: Edit) -> Pixels:
        began = time.perf_counter()
        picture = side(edit)
        self.columns[name].seconds.append(time.perf_counter() - began)
        return picture

    def metrics(self) -> dict[str, Any]:
        """All that was measured, and the ratios of each whole round to Tritouch."""
        ours = self.columns.get(OURS, Column()).seconds
        ratios = {
            name: [theirs / mine for theirs, mine in zip(column.seconds, ours, strict=False)]
            for name, column in self.columns.items()
            if name not in (OURS, EXACT)
        }
        columns = {name: asdict(column) for name, column in self.columns.items()}
        return {**asdict(self.case), "columns": columns, "times_as_fast": ratios}


def sides(setup: Setup, engine: str, precision: str, folder: Path, stack: ExitStack) -> dict[str, Side]:
    """Everything that takes part, loaded and running until `stack` is closed. `folder`: of installed rivals."""
    from bench import rivals  # noqa: PLC0415 - torch takes seconds, and a wrong flag should not

    checkpoint, narrow = setup.checkpoint(), rivals.NARROW
    running = stack.enter_context(serve(setup.repository(precision, engine), port=0))
    exact = rivals.pipeline(checkpoint, "fp32")
    half = exact if narrow == "fp32" else rivals.pipeline(checkpoint, narrow)
    plain = stack.enter_context(rivals.served(half))
    found: dict[str, Side] = {
        REFERENCE: partial(rivals.directly, exact),
        f"diffusers {narrow}": partial(rivals.directly, half),
        f"FastAPI and diffusers {narrow}": partial(rivals.through_plain_server, plain),
        OURS: partial(edits.through_gateway, running.http_url),
    }
    if rivals.DEVICE == "cuda":
        compiled = rivals.pipeline(checkpoint, narrow, compiled=True)
        found[f"diffusers {narrow}, torch.compile"] = partial(rivals.directly, compiled)
    for rival in installed.told(installed.RIVALS, folder, setup.name)[0]:
        found[rival.name] = stack.enter_context(rival.serving(folder / rival.folder, checkpoint))
    return found


def show(metrics: Mapping[str, Any]) -> None:
    """A table of one case."""
    print(f"\n{metrics['name']}: {metrics['side']} x {metrics['side']}, {metrics['steps']} steps")
    for name, column in metrics["columns"].items():
        if not column["seconds"]:
            continue
        ratio, likeness = metrics["times_as_fast"].get(name), column["psnr"]
        print(
            f"  {name:<32}{report.spread(column['seconds'], ' s'):<28}"
            + (f"Tritouch is {report.spread(ratio)} times as fast" if ratio else "")
            + (f"   PSNR {min(likeness):.1f} to {max(likeness):.1f} dB" if likeness and name != REFERENCE else "")
        )


def main() -> int:
    """Measures the cases asked for. Returns 130 when interrupted, after writing what was measured."""
    parser = report.parser(__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(case.name for case in CASES)} (all)")
    parser.add_argument("--rounds", type=int, help="rounds of each case (default: its own number)")
    parser.add_argument("--engine", default="openvino", help="kind of Tritouch's engines, as `export` takes it")
    parser.add_argument("--precision", default="auto", help="of Tritouch's engines, as `export` takes it")
    parser.add_argument("--rivals", type=Path, default=installed.FOLDER, help="where `make rivals` has installed them")
    options = parser.parse_args()
    if options.rivals != installed.FOLDER and not options.rivals.is_dir():
        parser.error(f"--rivals {options.rivals} is no folder")
    unknown = set(options.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    print(report.processor())
    for case in CASES:
        if options.cases and case.name not in options.cases:
            continue
        for line in installed.told(installed.RIVALS, options.rivals, case.setup)[1]:
            print(line)
        comparison = Comparison(Case(**asdict(case) | {"rounds": options.rounds or case.rounds}), installed.OWN_NOISE)
        try:
            measure(comparison, CHECKPOINTS[case.setup], options.engine, options.precision, options.rivals)
        except KeyboardInterrupt:
            print("interrupted: keeping what was measured", file=sys.stderr)
            return 130
        finally:
            if comparison.columns[REFERENCE].seconds:
                show(comparison.metrics())
                report.save(options.results, f"compare-{case.name}", {"cases": [comparison.metrics()]})
    return 0


def measure(comparison: Comparison, setup: Setup, engine: str, precision: str, rivals: Path) -> None:
    """One case: everything side by side, and then the fp32 engines alone, where they take pictures of this size."""
    exact = setup.repository("fp32", engine) if comparison.case.side**2 <= setup.exact_pixels else None
    with ExitStack() as stack:
        comparison.run(sides(setup, engine, precision, rivals, stack))
    gc.collect()  # the pipelines make room
    if exact is None:
        return
    with serve(exact, port=0) as running:
        comparison.again(EXACT, partial(edits.through_gateway, running.http_url))


if __name__ == "__main__":
    sys.exit(main())
