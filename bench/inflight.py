"""Long and short edits together: in flight, as Tritouch serves them, and one at a time, as a server with a lock does.

    python -m bench inflight [--episodes N] [--repository DIR] [--results DIR]

The same servers and engine take both, in turns: for one at a time the callers form a queue, first come, first served.
An episode of `stream` is 2 long edits (50 steps) and a short one (4 steps) every so often; of `mixed`, edits of three
sizes, of which some callers leave midway. Seconds are from an edit's arrival to its answer, throughput is the steps of
all answered edits over the time until the last one. Short ones arrive so often that they alone keep the engine busy for
half of the time. One episode of each scenario comes before, to warm up.
"""

import asyncio
import itertools
import statistics
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from rich.progress import track

from bench import edits, report, watch
from bench.setups import SETUPS
from embedded.server import Embedded, serve

LONG, SHORT = 50, 4
"""Steps."""
STREAM, MIXED = 12, 12
"""Short edits of an episode."""
SIDES = (256, 192, 128)
GAP = 2.0
"""Between arrivals of short edits, in times that one takes alone."""
WAYS = ("in flight", "one at a time")


@dataclass(frozen=True)
class Arrival:
    """An edit to come: seconds after the episode's start, and seconds after which its caller leaves, if it does."""

    at: float
    steps: int
    side: int
    patience: float | None = None


def stream(alone: float) -> list[Arrival]:
    """Two long edits at once, then short ones. `alone`: seconds of a short edit by itself."""
    side = SIDES[0]
    return [Arrival(0, LONG, side)] * 2 + [Arrival((1 + n) * GAP * alone, SHORT, side) for n in range(STREAM)]


def mixed(alone: float) -> list[Arrival]:
    """Every fourth edit is long, sizes take turns, and of each five one caller leaves after a while."""
    return [
        Arrival(
            n * GAP * alone,
            LONG if n % 4 == 0 else SHORT,
            SIDES[n % len(SIDES)],
            2 * alone if n % 5 == 4 else None,
        )
        for n in range(MIXED)
    ]


SCENARIOS = {"stream": stream, "mixed": mixed}


class Callers:
    """Those who ask one server for edits."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=600, trust_env=False)
        self._seeds = itertools.count()  # a request that equals one whose caller has left would take over its edit

    async def ask(self, arrival: Arrival, way: str, turn: asyncio.Lock) -> tuple[Arrival, float | None]:
        """One edit. Returns its seconds, None where its caller left."""
        edit = replace(next(edits.series(arrival.side, arrival.steps, 0)), seed=next(self._seeds))
        body = edits.body(edit, "jpeg", "JPEG")
        await asyncio.sleep(arrival.at)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(arrival.patience), AsyncExitStack() as stack:
                if way == "one at a time":
                    await stack.enter_async_context(turn)
                (await self._client.post("/v1/images/edits", json=body)).raise_for_status()
        except TimeoutError:
            return arrival, None
        return arrival, time.perf_counter() - began

    async def episode(self, arrivals: list[Arrival], way: str) -> dict[str, Any]:
        """All edits of an episode."""
        turn, began = asyncio.Lock(), time.perf_counter()
        answers = await asyncio.gather(*(self.ask(arrival, way, turn) for arrival in arrivals))
        took = time.perf_counter() - began
        done = [(arrival, seconds) for arrival, seconds in answers if seconds is not None]
        return {
            "long": [seconds for arrival, seconds in done if arrival.steps == LONG],
            "short": [seconds for arrival, seconds in done if arrival.steps == SHORT],
            "left": len(answers) - len(done),
            "steps_a_second": sum(arrival.steps for arrival, _ in done) / took,
        }


async def measure(server: Embedded, episodes: int) -> list[dict[str, Any]]:
    """All scenarios. When interrupted, keeps the episodes that are whole."""
    callers = Callers(server.http_url)
    first = Arrival(0, SHORT, SIDES[0])
    await callers.ask(first, WAYS[0], asyncio.Lock())
    alone = statistics.median([(await callers.ask(first, WAYS[0], asyncio.Lock()))[1] or 0.0 for _ in range(5)])
    print(f"a short edit alone takes {alone:.2f} s; {episodes} episodes of each scenario and way")
    found: list[dict[str, Any]] = [
        {"name": name, "alone": alone, "ways": {way: empty() for way in WAYS}} for name in SCENARIOS
    ]
    plan = [(scenario, way) for _ in range(episodes) for scenario in found for way in WAYS]
    try:
        for make in SCENARIOS.values():  # engines are slow at the first call of so many rows of a size
            await callers.episode(make(alone), WAYS[0])
        for scenario, way in track(plan, "episodes"):
            before = watch.totals(server)
            seen = await callers.episode(SCENARIOS[scenario["name"]](alone), way)
            after = watch.totals(server)
            for key, value in seen.items():
                scenario["ways"][way][key] += value if isinstance(value, list) else [value]
            rows = (after["rows"] - before["rows"]) / (after["calls"] - before["calls"])
            scenario["ways"][way]["rows_a_call"].append(rows)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted: keeping what was measured", file=sys.stderr)
    return found


def empty() -> dict[str, list[float]]:
    """One list for each metric."""
    return {key: [] for key in ("long", "short", "left", "steps_a_second", "rows_a_call")}


def p95(values: list[float]) -> float:
    """The smallest value that 95 of 100 do not exceed."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


def show(scenario: dict[str, Any]) -> None:
    """Prints both ways of a scenario, and what the one gains."""
    print(f"\n{scenario['name']}")
    for way in WAYS:
        metrics = scenario["ways"][way]
        for kind in ("short", "long"):
            print(
                f"  {way:<14}{kind:<6}p50 {statistics.median(metrics[kind]):6.2f} s   p95 {p95(metrics[kind]):6.2f} s"
            )
        rate, rows = (report.spread(metrics[key]) for key in ("steps_a_second", "rows_a_call"))
        print(f"  {way:<14}{rate} steps a second, {rows} rows a call, {sum(metrics['left']):.0f} callers left")
    ours, theirs = (scenario["ways"][way] for way in WAYS)
    rates = [mine / other for mine, other in zip(ours["steps_a_second"], theirs["steps_a_second"], strict=False)]
    print(f"  p95 of short edits is {p95(theirs['short']) / p95(ours['short']):.1f} times lower in flight", end="; ")
    print(f"throughput {report.spread(rates)} of one at a time")


def main() -> int:
    """Measures, prints and writes."""
    parser = report.parser(__doc__)
    parser.add_argument("--repository", type=Path, help="one that was exported already (default: the demo's)")
    parser.add_argument("--episodes", type=int, default=6, help="of each scenario and way")
    options = parser.parse_args()
    # The gateway keeps work whose caller has left for 5 s, in case that the same request comes again.
    settings = {"TRITOUCH_ORPHAN_GRACE_SECONDS": "0.1"}
    with serve(options.repository or SETUPS["demo"].repository(), port=0, env=settings) as server:
        found = asyncio.run(measure(server, options.episodes))
    whole = [scenario for scenario in found if scenario["ways"][WAYS[1]]["short"]]
    for scenario in whole:
        show(scenario)
    if whole:
        report.save(options.results, "inflight", {"scenarios": whole})
    return 0 if len(whole) == len(found) else 130


if __name__ == "__main__":
    sys.exit(main())
