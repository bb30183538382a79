"""What streams and several pictures cost: the hop of `edit` to `edit_stream`, progress, `n`, and callers who leave.

    python -m bench streams [hop] [pictures] [leaving] [--checkpoint demo|full|stub] [--side N]
        [--precision P] [--rounds N]

All over gRPC, on one running server, in turns: each round has every way once, every other round backwards, and what is
told are the medians and quartiles of the differences and ratios within rounds. `stub` is the demo checkpoint with stub
engines, which answer zeros at once: what is then seen of the hop is the hop alone.

`hop`: an edit by `edit`, the same by `edit_stream`, and by `edit_stream` with progress of every step (no previews).
`pictures`: `n=4`, four edits one after another, and four at once, all of one sentence, which is new in each round.
`leaving`: 64 fronts wait, their callers leave at once, and the gauges are read until nothing is in flight.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from bench import report, stub_engines, watch
from bench.callers import Caller
from bench.setups import SETUPS
from embedded.server import Embedded, serve
from gateway.tensors import Watch

PARTS = ("hop", "pictures", "leaving")
STUB = "stub"
ROUNDS = {STUB: (60, 0, 0), "demo": (30, 10, 5), "full": (8, 3, 1)}
"""Of a checkpoint's three parts; 0 where a part says nothing."""
STEPS = 4
PICTURES, WAITING = 4, 64
LOOK_SECONDS, PATIENCE = 0.01, 20.0
ENCODING = ("preprocess", "text_encoder", "vae_encoder")
LONG = 50
"""Steps of an edit whose caller leaves."""
MOST_MS, MOST_SHARE = 1.0, 0.01
"""What the unary front may add to an edit: so many milliseconds, and that share of it."""

Way = Callable[[], Any]


def rounds(ways: Mapping[str, Way], number: int) -> dict[str, list[float]]:
    """Seconds of each way by round. One round before is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(-1, number):
        names = list(ways)[:: 1 if round_ % 2 else -1]
        for name in names:
            began = time.perf_counter()
            ways[name]()
            if round_ >= 0:
                taken[name].append(time.perf_counter() - began)
    return taken


def quartiles(values: Sequence[float], unit: str, digits: int = 2) -> str:
    """Median, and in brackets the first and the third quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}){unit}"


def added(taken: Mapping[str, Sequence[float]], way: str, base: str) -> list[float]:
    """Seconds that one way takes longer than another, within each round."""
    return [one - other for one, other in zip(taken[way], taken[base], strict=True)]


def within_bound(differences: Sequence[float], base: Sequence[float]) -> bool:
    """Whether the median difference is at most 1 ms and 1 % of an edit."""
    return statistics.median(differences) <= MOST_MS / 1e3 + MOST_SHARE * statistics.median(base)


def hop(server: Embedded, number: int, side: int) -> None:
    """Prints what the unary front adds, and progress."""
    with Caller(server) as caller:
        edit = caller.edit(side, STEPS)
        progress = caller.edit(side, STEPS, Watch(progress=True))
        ways = {
            "edit": partial(caller.unary, edit),
            "edit_stream": partial(caller.streamed, edit),
            "progress": partial(caller.streamed, progress),
        }
        taken = rounds(ways, number)
    print(f"hop: {number} rounds, {side} x {side}, {STEPS} steps of one row")
    print(f"  an edit by edit_stream: {quartiles([1e3 * value for value in taken['edit_stream']], ' ms')}")
    for what, way, base in (("by edit", "edit", "edit_stream"), ("by a stream with progress", "progress", "edit")):
        more, whole = added(taken, way, base), statistics.median(taken[base])
        held = "within" if within_bound(more, taken[base]) else "beyond"
        print(f"  {what}, beside {base}: {quartiles([1e3 * value for value in more], ' ms')}", end=", ")
        print(f"{quartiles([100 * value / whole for value in more], ' %')}; {held} 1 ms + 1 %")


def pictures(server: Embedded, number: int, side: int) -> None:
    """Prints `n` pictures beside as many edits, and what is saved of their conditioning."""
    sentences = (f"make it night, {n}" for n in count())
    spent: dict[str, list[float]] = {}
    with Caller(server) as caller, ThreadPoolExecutor(PICTURES) as pool:

        def ask(sentence: str, place: int = 0, pictures: int = 1) -> None:
            given: dict[str, Any] = {"prompt": sentence, "seed": 7 + place, "n": pictures}
            caller.unary(caller.edit(side, STEPS, **given))

        def together(sentence: str) -> None:
            ask(sentence, pictures=PICTURES)

        def in_turn(sentence: str) -> None:
            for place in range(PICTURES):
                ask(sentence, place)

        def at_once(sentence: str) -> None:
            list(pool.map(partial(ask, sentence), range(PICTURES)))

        def counted(name: str, way: Callable[[str], None]) -> None:
            before, sentence = _encoding(server), next(sentences)
            way(sentence)
            spent.setdefault(name, []).append(_encoding(server) - before)

        ways = {"n": together, "one after another": in_turn, "at once": at_once}
        taken = rounds({name: partial(counted, name, way) for name, way in ways.items()}, number)
    print(f"pictures: {number} rounds, {side} x {side}, {STEPS} steps of one row a picture")
    for name, seconds in taken.items():
        print(f"  {name:<18}{quartiles(seconds, ' s')}, in encoders {quartiles(spent[name][1:], ' s')}", end="")
        if name != "n":
            ratios = [ours / theirs for ours, theirs in zip(taken["n"], seconds, strict=True)]
            print(f"; n={PICTURES} takes {quartiles(ratios, '')} of it", end="")
        print()


def _encoding(server: Embedded) -> float:
    """Seconds in encoders since the server's start, and in what prepares pictures for them."""
    found = watch.models(server, ENCODING)
    return sum(found[f"{name}.compute"] for name in ENCODING)


def leaving(server: Embedded, number: int, side: int) -> None:
    """Prints how long edits whose callers have left stay in flight."""
    print(f"leaving: {number} rounds, {WAITING} waiting fronts, {side} x {side}, {LONG} steps")
    with Caller(server) as caller:
        for round_ in range(number):
            edit = caller.edit(side, LONG, prompt=f"make it night, {round_}")
            calls = [caller.begun(edit) for _ in range(WAITING)]
            reached, _ = _until(server, WAITING)
            for call in calls:
                call.cancel()
            left, seconds = _until(server, 0)
            print(f"  of {WAITING} edits {reached:.0f} in flight; {left:.0f} left {seconds:.2f} s after all callers")


def _until(server: Embedded, in_flight: int) -> tuple[float, float]:
    """Waits until so many edits are in flight, or PATIENCE is over. Returns how many are, and the seconds it took."""
    began = time.monotonic()
    while True:
        found, waited = watch.in_flight(server), time.monotonic() - began
        if found == in_flight or waited > PATIENCE:
            return found, waited
        time.sleep(LOOK_SECONDS)


@contextmanager
def _served(name: str, precision: str) -> Iterator[Embedded]:
    with tempfile.TemporaryDirectory() as scratch:
        if name == STUB:
            repository = stub_engines.repository(SETUPS["demo"].repository(), Path(scratch))
        else:
            repository = SETUPS[name].repository(precision)
        with serve(repository, port=0) as server:
            yield server


def main() -> int:
    """Measures and prints."""
    parser = report.parser(__doc__)
    parser.add_argument("parts", nargs="*", choices=(*PARTS, []), help="default: all")
    parser.add_argument("--checkpoint", choices=tuple(ROUNDS), action="append", help="default: all three")
    parser.add_argument("--precision", default="auto", help="of the engines, as the export has it")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    options = parser.parse_args()
    print(report.machine())
    return report.until_interrupted(partial(measure, options))


def measure(options: argparse.Namespace) -> None:
    """The parts that were asked for, of each checkpoint."""
    for name in options.checkpoint or ROUNDS:
        with _served(name, options.precision) as server:
            print(f"\n{name}")
            for part, usual in zip((hop, pictures, leaving), ROUNDS[name], strict=True):
                if usual and part.__name__ in (options.parts or PARTS):
                    part(server, options.rounds or usual, options.side)


if __name__ == "__main__":
    sys.exit(main())
