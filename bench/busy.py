"""How busy the denoiser is kept: the share of time in which it computes, while edits are in flight.

    python -m bench busy [--repository DIR] [--milliseconds N ...] [--steps N] [--rounds N]

The demo checkpoint's repository, with a stub denoiser that takes so many milliseconds and no processor, as a GPU's
would, and tells when it computed. `one group`: two pictures of one size, which share every call; `two groups`: two
pictures each of two sizes, whose calls take turns. With one call of the denoiser at a time, sent through Triton, as all
were once (`TRITOUCH_IN_PLACE_BYTES`); with one at a time (`TRITOUCH_DENOISER_CALLS=1`); and as it is served, with the
next one ready before that ends. Told are the share while all groups are in flight, and how long the denoiser waits
between two calls.
"""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from pathlib import Path

from bench import report, stub_engines
from bench.callers import Caller
from bench.setups import SETUPS
from bench.stub_engines import Call
from embedded.server import Embedded, serve

WAYS = {
    "through Triton": {"TRITOUCH_DENOISER_CALLS": "1", "TRITOUCH_IN_PLACE_BYTES": str(1 << 40)},
    "one at a time": {"TRITOUCH_DENOISER_CALLS": "1"},
    "as served": {},
}
GROUPS = {"one group": (256,), "two groups": (256, 192)}
"""Sides of their pictures, in pixels."""
PICTURES = 2
"""Of each group."""
SHORTEST, LONGEST = 3.0, 100.0


def share(calls: Sequence[Call]) -> float:
    """Percent of the time in which calls of every size are there that the denoiser computes."""
    began, ended = _window(calls)
    return 100 * sum(max(0.0, min(call.ended, ended) - max(call.began, began)) for call in calls) / (ended - began)


def waits(calls: Sequence[Call]) -> float:
    """Milliseconds between two calls in that time, their median."""
    began, ended = _window(calls)
    inside = [call for call in calls if began <= call.began and call.ended <= ended]
    return 1e3 * statistics.median(after.began - before.ended for before, after in pairwise(inside))


def _window(calls: Sequence[Call]) -> tuple[float, float]:
    """From when calls of every size have begun until one size has no more."""
    sizes = {call.size for call in calls}
    first = max(min(call.began for call in calls if call.size == size) for size in sizes)
    return first, min(max(call.ended for call in calls if call.size == size) for size in sizes)


def main() -> int:
    """Measures and prints."""
    parser = report.parser(__doc__)
    parser.add_argument("--repository", type=Path, help="one that was exported already")
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[SHORTEST, 10.0, LONGEST], help="of a call")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[tuple[float, str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = stub_engines.repository(options.repository or SETUPS["demo"].repository(), Path(scratch))
        stub_engines.takes(folder, 0)
        for round_, (way, environment) in product(range(options.rounds), WAYS.items()):
            print(f"round {round_ + 1}, {way}", flush=True)
            with serve(folder, port=0, env=environment) as server:
                for milliseconds, group in product([0.0, *options.milliseconds], GROUPS):
                    made = _calls(server, folder, milliseconds, GROUPS[group], options.steps)
                    if milliseconds:  # else it was to warm up
                        found.setdefault((milliseconds, group, way), []).append((share(made), waits(made)))
    for (milliseconds, group, way), values in found.items():
        shares, waiting = zip(*values, strict=True)
        print(f"{milliseconds:5.0f} ms  {group:<12}{way:<15}busy {report.spread(shares, ' %', 1):<26}", end="")
        print(f"waits {report.spread(waiting, ' ms')}")
    return 0


def _calls(server: Embedded, folder: Path, milliseconds: float, sides: Sequence[int], steps: int) -> list[Call]:
    """Of one request of each side, together."""
    stub_engines.takes(folder, milliseconds)
    with Caller(server) as caller, ThreadPoolExecutor(len(sides)) as pool:
        list(pool.map(caller.unary, [caller.edit(side, steps, n=PICTURES) for side in sides]))
    return stub_engines.calls(folder)


if __name__ == "__main__":
    sys.exit(main())
