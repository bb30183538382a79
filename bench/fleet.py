"""A fleet that cannot run here, simulated: replicas of the measured batcher behind a balancer.

    python -m bench fleet [--replicas 1..256] [--policy NAME] [--load SHARE] [--mix STEPSxROWS:SHARE,...] [--edits N]
    python -m bench fleet --replicas 64 --scale 64..256 --burst 3x600/1800     # KEDA, and three times as many at times
    python -m bench fleet --replicas 256 --deaths 5 --streams 0.2              # pods that are killed

Edits come at random (Poisson) at a share of what so many replicas can do with full calls. Percentiles leave the first
tenth of the edits out, which find an empty fleet. What a replica takes is measured by `python -m bench replica`;
`python -m bench fleet_check` holds the simulation to real ones. Equal seeds give equal figures.
"""

import argparse
import math
import random
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from bench import report
from bench.replica import PROFILE
from bench.simulation import edits, profile
from bench.simulation.balancing import POLICIES
from bench.simulation.figures import Figures, figures
from bench.simulation.fleet import Fleet, Setting
from bench.simulation.scaling import Down, Scaling

EDITS, EDITS_A_REPLICA = 10_000, 250
DOWN = "10%/60"
MIX = "20x1:0.8,50x3:0.2"
THRESHOLD = 0.7
"""Of the edits that fill a replica's calls: in flight in each, KEDA aims at so many."""
HEAD = "replicas  policy             pods   p50 s   p95 s   p99 s  busy  rows  refused   lost  resent  steps wasted"


def sizes(text: str) -> list[int]:
    """`1..256`: by doubling; `1,3,256`: these. Raises ArgumentTypeError."""
    whole = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if whole:
        least, most = int(whole[1]), int(whole[2])
        found = sorted({min(most, least << n) for n in range(64) if least}) if least <= most else []
    else:
        found = [int(part) for part in text.split(",") if part.isdecimal()] if re.fullmatch(r"\d+(,\d+)*", text) else []
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"give numbers from 1, as 1..256 or 1,3,256, and not {text!r}")
    return found


def bounds(text: str) -> tuple[int, int]:
    """`64..256`. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"give the least and the most replicas as 64..256, and not {text!r}")
    return int(found[1]), int(found[2])


def down(text: str) -> tuple[int, float, float]:
    """`1/300`, pods within so many seconds; `10%/60`, a share, one pod at least. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+)(%?)/(\d+)", text)
    if not found or min(int(found[1]), int(found[3])) < 1 or (found[2] and int(found[1]) > 100):
        raise argparse.ArgumentTypeError(f"give PODS/SECONDS as 1/300, or PERCENT%/SECONDS as 10%/60, and not {text!r}")
    pods, share = (1, int(found[1]) / 100) if found[2] else (int(found[1]), 0.0)
    return pods, share, float(found[3])


def burst(text: str) -> edits.Burst:
    """`3x600/1800`: three times as many for 600 s of every 1800. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d*\.?\d+)x(\d+)/(\d+)", text)
    if not found or float(found[1]) < 1 or not 0 < int(found[2]) < int(found[3]):
        raise argparse.ArgumentTypeError(f"give TIMESxSECONDS/EVERY as 3x600/1800, TIMES from 1, and not {text!r}")
    return edits.Burst(float(found[1]), float(found[2]), float(found[3]), begins=float(found[2]))


def number(least: float, most: float = math.inf, kind: Callable[[str], float] = float) -> Callable[[str], Any]:
    """Parses numbers within bounds. What it returns raises ArgumentTypeError."""

    def parse(text: str) -> float:
        try:
            found = kind(text)
        except ValueError:
            found = math.nan
        if not least <= found <= most or math.isinf(found):
            raise argparse.ArgumentTypeError(f"give a number from {least:g} to {most:g}, and not {text!r}")
        return found

    return parse


def mix(text: str) -> tuple[edits.Kind, ...]:
    """As `edits.mix`. Raises ArgumentTypeError."""
    try:
        return edits.mix(text)
    except edits.MixError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def measured(text: str) -> profile.Profile:
    """As `profile.read`. Raises ArgumentTypeError."""
    try:
        return profile.read(Path(text))
    except profile.ProfileError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = report.parser(__doc__)
    made.add_argument("--profile", type=measured, default=str(PROFILE), help="what `python -m bench replica` wrote")
    made.add_argument("--replicas", type=sizes, default="1..256", help="at the beginning, and what the load is of")
    made.add_argument("--policy", choices=POLICIES, action="append", help="default: all three")
    made.add_argument("--load", type=number(0.01, 10), default=0.7, help="share of what full calls could do")
    made.add_argument("--mix", type=mix, default=MIX, help=f"default: {MIX}")
    made.add_argument(
        "--edits", type=number(1, 1e8, int), help=f"default: {EDITS_A_REPLICA} a replica, {EDITS} at least"
    )
    made.add_argument("--burst", type=burst, default=edits.Burst(), help="TIMESxSECONDS/EVERY: 3x600/1800")
    made.add_argument("--scale", type=bounds, metavar="LEAST..MOST", help="KEDA changes the number of replicas")
    made.add_argument("--down", type=down, default=DOWN, help="how fast it takes replicas away; default: %(default)s")
    made.add_argument(
        "--down-window",
        type=number(0),
        default=300.0,
        help="seconds; it takes nothing away that was wanted within them",
    )
    made.add_argument("--threshold", type=number(0.1), help=f"edits in flight; default: {THRESHOLD} of full calls")
    made.add_argument(
        "--start-seconds", type=number(0), default=120.0, help="from a pod's making until it is sent edits"
    )
    made.add_argument("--deaths", type=number(0, 1e6, int), default=0, help="pods killed, spread evenly over the run")
    made.add_argument("--streams", type=number(0, 1), default=0.0, help="share of edits, sent again only until a step")
    made.add_argument("--no-resend", action="store_true", help="what a dead pod held is lost")
    made.add_argument("--balancers", type=number(1, 1000, int), default=1, help="each knows what it has sent itself")
    made.add_argument("--choices", type=number(1, 1000, int), default=2, help="of least request")
    made.add_argument("--seed", type=number(0, 1e9, int), default=0)
    return made


def setting(options: argparse.Namespace, replicas: int, policy: str, seconds: float) -> Setting:
    """Of one run, which takes about so many seconds of the fleet's time."""
    scaling = None
    if options.scale:
        rows = sum(kind.share * kind.rows for kind in options.mix)
        threshold = options.threshold or THRESHOLD * options.profile.max_rows / rows
        least, most = options.scale
        pods, share, seconds_down = options.down
        down = Down(pods, share, seconds_down, options.down_window)
        scaling = Scaling(least, most, threshold, start_seconds=options.start_seconds, down=down)
    return Setting(
        replicas,
        policy,
        choices=options.choices,
        balancers=options.balancers,
        resend=not options.no_resend,
        deaths=tuple(seconds * (n + 0.5) / options.deaths for n in range(options.deaths)),
        start_seconds=options.start_seconds,
        scaling=scaling,
    )


def run(options: argparse.Namespace, replicas: int, policy: str) -> dict[str, Any]:
    """One simulation: its figures, and the fleet over time where its size changes."""
    draw = random.Random(options.seed)  # noqa: S311 - guards nothing
    rate = options.load * replicas * edits.capacity(options.mix, options.profile)
    count = options.edits or max(EDITS, EDITS_A_REPLICA * replicas)
    times = edits.arrivals(rate, options.burst, draw)
    asked = list(islice(edits.drawn(options.mix, times, options.streams, draw), count))
    fleet = Fleet(options.profile, setting(options, replicas, policy, asked[-1].arrived), options.seed)
    began = time.perf_counter()
    seen = fleet.run(iter(asked))
    took = time.perf_counter() - began
    found = figures(seen)
    show(replicas, policy, found)
    samples = [asdict(sample) for sample in seen.samples] if options.scale else []
    return {"replicas": replicas, "policy": policy, "rate": rate, "took": took, **asdict(found), "samples": samples}


def show(replicas: int, policy: str, found: Figures) -> None:
    """Prints a line of the table."""
    print(
        f"{replicas:8}  {policy:<14}{found.pods:9.1f}{found.p50:8.2f}{found.p95:8.2f}{found.p99:8.2f}"
        f"{found.utilisation:6.0%}{found.rows_a_call:6.1f}{found.refused:9}{found.lost:7}{found.resent:8}{found.wasted_steps:14}",
        flush=True,
    )


def main() -> int:
    """Simulates, prints and writes. Ctrl-C keeps what is done."""
    parsed = parser()
    options = parsed.parse_args()
    try:
        edits.require_fitting(options.mix, options.profile)
    except edits.MixError as error:
        parsed.error(str(error))
    if options.scale and not all(options.scale[0] <= size <= options.scale[1] for size in options.replicas):
        parsed.error(f"--replicas must lie within --scale {options.scale[0]}..{options.scale[1]}")
    cases: list[dict[str, Any]] = []
    print(f"with full calls a replica does {edits.capacity(options.mix, options.profile):.2f} edits a second")
    print(HEAD)
    try:
        for replicas in options.replicas:
            cases += [run(options, replicas, policy) for policy in options.policy or POLICIES]
    except KeyboardInterrupt:
        print("interrupted: keeping what was simulated", file=sys.stderr)
    if cases:
        kind = "fleet-scaling" if options.scale else "fleet-deaths" if options.deaths else "fleet"
        data = {"load": options.load, "mix": [asdict(one) for one in options.mix], "profile": asdict(options.profile)}
        report.save(options.results, kind, {**data, "seed": options.seed, "cases": cases})
    return 0 if len(cases) == len(options.replicas) * len(options.policy or POLICIES) else 130


if __name__ == "__main__":
    sys.exit(main())
