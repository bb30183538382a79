"""The simulation of fleets beside real replicas: one Triton, and three.

    python -m bench fleet_check [--edits N] [--load SHARE] [--side N]

Three embedded Tritons with stub engines that sleep, so that they take next to nothing from one another on one machine.
One is measured as `python -m bench replica` does; then a balancer of the simulation's sends edits of mixed steps, rows
and sizes to it alone, and to all three, over gRPC, at the arrivals of a Poisson process. The simulation is given the
same edits. Real are Triton, `edit`, `edit_stream` and all that they do between engines; not real are the engines' time
and Envoy. Exits with 1 where a figure is off by more than 15 %.
"""

import random
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from typing import Any

from bench import report, watch
from bench.callers import Caller
from bench.fleet import number
from bench.replica import measured, served, stubs
from bench.simulation.balancing import Balancer
from bench.simulation.edits import Burst, Edit, Kind, arrivals, capacity, drawn
from bench.simulation.figures import percentile
from bench.simulation.fleet import Fleet, Setting
from bench.simulation.profile import Profile
from embedded.server import Embedded

REPLICAS = (1, 3)
BOUND = 0.15
LARGE, SMALL = 128, 64
PIXELS_A_TOKEN = 64
"""Of the demo's checkpoint."""
KINDS = tuple(
    Kind(steps, rows, side * side // PIXELS_A_TOKEN, share)
    for steps, rows, side, share in ((10, 1, LARGE, 0.4), (30, 1, LARGE, 0.2), (10, 3, LARGE, 0.2), (20, 1, SMALL, 0.2))
)
GUIDANCE = {1: 1.0, 3: 7.5}
"""By rows of a step."""
PATIENCE_SECONDS = 120
SEEDS = range(5)
"""Simulations of one real run, whose medians are told: the balancer's draws differ."""
COMPARED = ("p50", "p95", "mean", "utilisation", "rows_a_call")


def series(profile: Profile, replicas: int, count: int, load: float) -> list[Edit]:
    """Edits for so many replicas at this share of their capacity."""
    draw = random.Random(replicas)  # noqa: S311 - guards nothing
    rate = load * replicas * capacity(KINDS, profile)
    return list(islice(drawn(KINDS, arrivals(rate, Burst(), draw), 0.0, draw), count))


class Run:
    """Edits under way to real replicas, each sent as a balancer of the simulation's chooses."""

    def __init__(self, servers: Sequence[Embedded]) -> None:
        self._servers = servers
        self._balancer = Balancer("least request", random.Random(0))  # noqa: S311 - guards nothing
        self._lock, self._settled = threading.Lock(), threading.Semaphore(0)
        self._seconds: list[float] = []
        self._failed: list[Any] = []
        self._calls: list[Any] = []  # one that nothing refers to any more is cancelled

    def figures(self, edits: Sequence[Edit]) -> dict[str, float]:
        """Sends each at its time and waits for all. Raises InferenceServerException or TimeoutError where one fails."""
        with ExitStack() as stack:
            callers = [stack.enter_context(Caller(server)) for server in self._servers]
            inputs = {kind: _inputs(callers[0], kind) for kind in KINDS}
            before, start = self._spent(), time.perf_counter()
            for edit in edits:
                time.sleep(max(0.0, start + edit.arrived - time.perf_counter()))
                self._send(callers, inputs[edit.plan])
            answered = all(self._settled.acquire(timeout=PATIENCE_SECONDS) for _ in edits)
            took = time.perf_counter() - start
        if self._failed or not answered:
            raise self._failed[0] if self._failed else TimeoutError(f"{len(self._seconds)} of {len(edits)} answered")
        turns, rows, calls = (late - early for early, late in zip(before, self._spent(), strict=True))
        return _told(self._seconds, turns / took / len(self._servers), rows / calls)

    def _send(self, callers: Sequence[Caller], inputs: Any) -> None:
        with self._lock:
            replica = self._balancer.pick(range(len(callers)))
            self._balancer.sent(replica)
        self._calls.append(callers[replica].begun(inputs, partial(self._done, replica, time.perf_counter())))

    def _done(self, replica: int, began: float, *, result: Any, error: Any) -> None:  # noqa: ARG002 - as it is called
        with self._lock:
            self._balancer.returned(replica)
            self._failed.extend([error] if error else [])
            self._seconds.append(time.perf_counter() - began)
        self._settled.release()

    def _spent(self) -> list[float]:
        """Seconds of turns, rows and calls of all replicas."""
        found = [watch.batcher(server) for server in self._servers]
        return [sum(one[name] for one in found) for name in ("turns", "rows", "calls")]


def _inputs(caller: Caller, kind: Kind) -> Any:
    side = int((kind.tokens * PIXELS_A_TOKEN) ** 0.5)
    return caller.edit(side, kind.steps, guidance_scale=GUIDANCE[kind.rows])


def simulated(profile: Profile, replicas: int, edits: Sequence[Edit]) -> dict[str, float]:
    """The same edits, simulated; the median of several draws of the balancer."""
    runs = []
    for seed in SEEDS:
        seen = Fleet(profile, Setting(replicas), seed).run(iter([replace(edit) for edit in edits]))
        busy, rows, calls = (sum(getattr(one, name) for one in seen.replicas) for name in ("busy", "rows", "calls"))
        took = max(edit.arrived + edit.seconds for edit in seen.edits)
        runs.append(_told([edit.seconds for edit in seen.edits], busy / took / replicas, rows / calls))
    return {name: statistics.median(run[name] for run in runs) for name in COMPARED}


def _told(seconds: Sequence[float], utilisation: float, rows: float) -> dict[str, float]:
    ascending = sorted(seconds)
    told = (percentile(ascending, 50), percentile(ascending, 95), statistics.mean(ascending), utilisation, rows)
    return dict(zip(COMPARED, told, strict=True))


def show(replicas: int, ours: dict[str, float], theirs: dict[str, float]) -> bool:
    """Prints both. Whether all is within the bound."""
    print(f"{replicas} replica{'s' * (replicas > 1)}   real  simulated  off by")
    off = {name: ours[name] / theirs[name] - 1 for name in COMPARED}
    for name in COMPARED:
        print(f"  {name:<12}{theirs[name]:7.3f}{ours[name]:11.3f}{off[name]:+8.1%}")
    return all(abs(one) <= BOUND for one in off.values())


def main() -> int:
    """Measures, simulates, prints and writes. Returns 1 where the two differ by more than the bound."""
    parser = report.parser(__doc__)
    parser.add_argument("--edits", type=number(1, 1e6, int), default=150, help="for each replica")
    parser.add_argument("--load", type=number(0.01, 1), default=0.6, help="share of the replicas' capacity")
    options = parser.parse_args()
    cases: list[dict[str, Any]] = []
    with stubs() as repository, ExitStack() as stack:
        servers = [stack.enter_context(served(repository)) for _ in range(max(REPLICAS))]
        profile = measured(servers[0], repository, LARGE)
        for replicas in REPLICAS:
            edits = series(profile, replicas, options.edits * replicas, options.load)
            print(f"{len(edits)} edits in {edits[-1].arrived:.0f} s to {replicas}", flush=True)
            theirs = Run(servers[:replicas]).figures(edits)
            ours = simulated(profile, replicas, edits)
            cases.append({"replicas": replicas, "edits": len(edits), "real": theirs, "simulated": ours})
    met = [show(case["replicas"], case["simulated"], case["real"]) for case in cases]
    report.write(
        options.results / "check-fleet.json", {"load": options.load, "profile": asdict(profile), "cases": cases}
    )
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
