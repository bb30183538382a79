"""What the simulation of fleets is fed with, measured on one replica.

    python -m bench replica [--repository DIR] [--side N] [--profile FILE]

The batcher's turns by rows, and what the engine has of them; an edit's time before and after its turns while it is
alone, and what is left of it over gRPC. Without a repository the engines are stubs that sleep for as long as a GPU
might compute; with one they are its own, and nothing else may run on the machine. All edits have one size, and a turn's
seconds are those of its rows there.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

from bench import report, stub_engines, watch
from bench.callers import Caller
from bench.setups import ROOT, SETUPS
from bench.simulation.profile import Profile
from embedded.server import Embedded, serve
from families.settings import Settings

STUB_SLEEPS: stub_engines.Sleeps = {
    "text_encoder": (0.020, 0.0),
    "vae_encoder": (0.030, 0.0),
    "denoiser": (0.040, 0.020),
    "vae_decoder": (0.060, 0.0),
}
PROFILE = ROOT / "bench" / "profiles" / "stub.json"
ROWS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Of the turns that are measured, as far as a call takes them."""
STEPS, ALONE = 40, 20
MAX_JOBS, CALLS = 64, 2


@contextmanager
def stubs() -> Iterator[Path]:
    """The demo's repository with engines that sleep."""
    with tempfile.TemporaryDirectory() as scratch:
        yield stub_engines.repository(SETUPS["demo"].repository(), Path(scratch), STUB_SLEEPS)


@contextmanager
def served(repository: Path) -> Iterator[Embedded]:
    """Triton alone, with as many places and calls at once as the profile says."""
    env = {"TRITOUCH_MAX_JOBS": str(MAX_JOBS), "TRITOUCH_DENOISER_CALLS": str(CALLS)}
    with serve(repository, gateway=False, env=env) as server:
        yield server


def measured(server: Embedded, repository: Path, side: int) -> Profile:
    """The profile of a running replica that nobody else calls."""
    settings = Settings.read(repository / "edit_stream" / "1" / "pipeline")
    with Caller(server) as caller:
        alone = _alone(server, caller, side)
        turns = [_turn(server, caller, rows, side) for rows in ROWS if rows <= settings.max_rows]
    return Profile(tuple(turns), *alone, settings.max_rows, settings.max_tokens, MAX_JOBS, CALLS)


def _alone(server: Embedded, caller: Caller, side: int) -> tuple[float, float, float]:
    """Seconds of conditioning, of rendering, and of what is in neither of these nor in turns: means, and a median."""
    caller.unary(caller.edit(side, 1))
    took, spent = [], []
    for number in range(ALONE):
        edit = caller.edit(side, 1, prompt=f"make it night, {number}")
        before, began = watch.batcher(server), time.perf_counter()
        caller.unary(edit)
        took.append(time.perf_counter() - began)
        after = watch.batcher(server)
        spent.append({stage: after[stage] - before[stage] for stage in watch.STAGES})
    condition, render = (statistics.median(edit[stage] for edit in spent) for stage in ("condition", "render"))
    front = statistics.median(whole - sum(edit.values()) for whole, edit in zip(took, spent, strict=True))
    return condition, render, max(0.0, front)


def _turn(server: Embedded, caller: Caller, rows: int, side: int) -> tuple[float, float, float]:
    """Rows of a call, seconds of a turn and of its engine, means while so many edits of one row are in flight.

    They have one size, and so one call at a time.
    """
    _together(caller, rows, side, 2)  # engines are slow at the first call of so many rows
    before = _spent(server)
    _together(caller, rows, side, STEPS)
    after = _spent(server)
    calls, *spent = (after[name] - before[name] for name in ("calls", "rows", "turns", "engine"))
    rows_a_call, turn, engine = (one / calls for one in spent)
    print(f"{rows_a_call:6.2f} rows a call: {1e3 * turn:8.2f} ms a turn, {1e3 * engine:8.2f} ms of its engine")
    return rows_a_call, turn, min(turn, engine)


def _spent(server: Embedded) -> dict[str, float]:
    """What the batcher says, with the engine's seconds of calls that go through Triton."""
    found = watch.batcher(server)
    found["engine"] += watch.models(server, ("denoiser",))["denoiser.compute"]
    return found


def _together(caller: Caller, edits: int, side: int, steps: int) -> None:
    inputs = [caller.edit(side, steps) for _ in range(edits)]
    with ThreadPoolExecutor(edits) as threads:
        list(threads.map(caller.unary, inputs))


def main() -> int:
    """Measures, prints and writes."""
    parser = report.parser(__doc__)
    parser.add_argument("--repository", type=Path, help="one that was exported; without, engines are stubs that sleep")
    parser.add_argument("--side", type=int, default=128, help="pixels of a picture's side")
    parser.add_argument(
        "--profile", type=Path, help=f"written; default: {PROFILE.name}, or replica.json of the results"
    )
    options = parser.parse_args()
    if options.repository and not (options.repository / "edit_stream" / "1" / "pipeline").is_dir():
        parser.error(f"{options.repository} is no exported repository: make one with `python -m export --repository`")
    with nullcontext(options.repository) if options.repository else stubs() as repository, served(repository) as server:
        profile = measured(server, repository, options.side)
    show(profile)
    what = "the repository's engines" if options.repository else f"stubs that sleep: {STUB_SLEEPS}"
    file = options.profile or (options.results / "replica.json" if options.repository else PROFILE)
    report.write(file, {"engines": what, "side": options.side, "profile": asdict(profile)})
    return 0


def show(profile: Profile) -> None:
    """Prints what is not a turn."""
    for stage in ("condition", "render", "front"):
        print(f"{stage:<10}{1e3 * getattr(profile, f'{stage}_seconds'):8.2f} ms an edit")


if __name__ == "__main__":
    sys.exit(main())
