"""Where the time of an edit goes, stage by stage, and the share that is not spent in engines.

    python -m bench overhead [--checkpoint demo|full] [--repository DIR] [--edits N] [--steps N] [--side N]

Edits go one at a time through the real gateway and Triton; the metrics are theirs, taken before and after each edit.
What Triton calls the computing of an engine has the hand-over to the engine's process in it: a fraction of a
millisecond a call. So the same edits then run with stub engines, whose zeros come at once, which leaves everything but
the engines: that is the other, stricter number. Every other edit has a sentence that was seen before, whose embeddings
come from Triton's cache; stages are of those, and the saving is by how much sooner they were ready to be denoised (the
text encoder runs beside that of the picture, and only in part at its cost).
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from rich.progress import track

from bench import edits, report, stub_engines, watch
from bench.setups import SETUPS
from embedded.server import Embedded, serve

DEFAULTS = {"demo": (50, 10), "full": (4, 5)}
"""Steps and edits of a checkpoint."""
SEEN = "make it night"
WARM_UP = 6
"""Edits before the first that counts: enough for each of `preprocess`'s processes to have answered its first call."""
ENGINES = tuple(f"{name}, engine" for name in watch.ENGINES)


def stages(wall: float, spent: dict[str, float]) -> dict[str, float]:
    """The seconds of one edit by stage; they add up to `wall`."""
    compute = {name: spent[f"{name}.compute"] for name in (*watch.ENGINES, *watch.PYTHON)}
    inside = spent["condition"] + spent["queue"] + spent["denoise"] + spent["render"]
    encoding = compute["preprocess"] + compute["text_encoder"] + compute["vae_encoder"]
    decoding = compute["vae_decoder"] + compute["postprocess"]
    return {
        "client and HTTP": wall - spent["gateway.request"],
        "gateway": spent["gateway.request"] - spent["gateway.edit"],
        "gRPC, Triton's front": spent["gateway.edit"] - inside,
        "preprocess": compute["preprocess"],
        "text_encoder, engine": compute["text_encoder"],
        "vae_encoder, engine": compute["vae_encoder"],
        "between them": spent["condition"] - encoding,
        "wait for the first turn": spent["queue"],
        "denoiser, engine": compute["denoiser"],
        "calls to it": spent["calls.seconds"] - compute["denoiser"],
        "scheduler and batcher": spent["denoise"] - spent["calls.seconds"],
        "vae_decoder, engine": compute["vae_decoder"],
        "postprocess": compute["postprocess"],
        "between these": spent["render"] - decoding,
    }


@contextmanager
def measured(server: Embedded) -> Iterator[dict[str, float]]:
    """Yields a dictionary which at the end has `wall` and what the servers spent meanwhile."""
    before, spent = watch.totals(server), dict[str, float]()
    began = time.perf_counter()
    yield spent
    wall = time.perf_counter() - began
    after = watch.totals(server)
    spent |= {name: after[name] - before[name] for name in after} | {"wall": wall}


def run(repository: Path, asked: list[edits.Edit], what: str) -> list[dict[str, float]]:
    """Every edit once with its own sentence and once with one seen before. Returns what each spent."""
    done: list[dict[str, float]] = []
    with serve(repository, port=0) as server:
        for _ in range(WARM_UP):
            edits.through_gateway(server.http_url, replace(asked[0], prompt=SEEN))
        for edit in track(asked, what):
            for prompt in (f"{edit.prompt}, {len(done)}", SEEN):
                content = edits.body(replace(edit, prompt=prompt), "jpeg", "JPEG")
                with measured(server) as spent:
                    edits.post(f"{server.http_url}/v1/images/edits", content)
                done.append(spent)
    return done


def show(case: dict[str, Any]) -> None:
    """Prints the table of one case."""
    whole = statistics.mean(sum(edit.values()) for edit in case["edits"])
    print(f"\n{case['setup']}, {case['side']} x {case['side']}, {case['steps']} steps, {len(case['edits'])} edits")
    for name in case["stages"]:
        mean = statistics.mean(edit[name] for edit in case["edits"])
        print(f"  {name:<26}{mean * 1e3:10.2f} ms {mean / whole:7.2%}")
    print(f"  {'all':<26}{whole * 1e3:10.2f} ms")
    print(f"not in engines: {report.spread(case['share'], ' %')} of an edit")
    for what, kind in (("", ""), ("with stub engines, ", "stub_")):
        step, around = (report.spread(case[f"{kind}{part}_ms"], " ms") for part in ("step", "around"))
        print(f"{what}a step: {step}; around the steps: {around}")
    print(f"a sentence seen before: {case['hits']} of {len(case['edits'])} from the cache; ", end="")
    print(f"{report.spread(case['saved_ms'], ' ms')} saved")


def metrics(options: Any, real: list[dict[str, float]], empty: list[dict[str, float]]) -> dict[str, Any]:
    """The case as it is written: seconds by stage of each edit whose sentence was seen before, and what follows."""
    fresh, seen = real[0::2], real[1::2]
    by_stage = [stages(edit["wall"], edit) for edit in seen]
    steps = seen[0]["steps"]
    own = [{name: value for name, value in edit.items() if name not in ENGINES} for edit in by_stage]
    stepping = [edit["calls to it"] + edit["scheduler and batcher"] for edit in own]
    stub_steps = [edit["denoise"] for edit in empty[1::2]]
    return {
        "setup": options.checkpoint,
        "side": options.side,
        "steps": int(steps),
        "engines": ENGINES,
        "stages": list(by_stage[0]),
        "edits": by_stage,
        "share": [100 * sum(o.values()) / e["wall"] for o, e in zip(own, seen, strict=True)],
        "step_ms": [1e3 * value / steps for value in stepping],
        "around_ms": [1e3 * (sum(o.values()) - s) for o, s in zip(own, stepping, strict=True)],
        "stub_step_ms": [1e3 * value / steps for value in stub_steps],
        "stub_around_ms": [1e3 * (e["wall"] - s) for e, s in zip(empty[1::2], stub_steps, strict=True)],
        "hits": sum(int(edit["text_encoder.hits"]) for edit in seen),
        "saved_ms": [1e3 * (new["condition"] - old["condition"]) for new, old in zip(fresh, seen, strict=True)],
    }


def main() -> int:
    """Measures, prints and writes."""
    parser = report.parser(__doc__)
    parser.add_argument("--checkpoint", choices=tuple(SETUPS), default="demo")
    parser.add_argument("--repository", type=Path, help="one that was exported already, with whatever engines it has")
    parser.add_argument("--edits", type=int, help="each is made twice (default: 10, of full size 5)")
    parser.add_argument("--steps", type=int, help="default: 50, of full size 4")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    options = parser.parse_args()
    setup = SETUPS[options.checkpoint]
    steps, count = options.steps or DEFAULTS[setup.name][0], options.edits or DEFAULTS[setup.name][1]
    repository = options.repository or setup.repository()
    asked = list(islice(edits.series(options.side, steps, 0), count))
    print(f"{2 * count} edits of {steps} steps, and as many with stub engines")
    try:
        real = run(repository, asked, "edits")
        with tempfile.TemporaryDirectory() as scratch:
            empty = run(stub_engines.repository(repository, Path(scratch)), asked, "stub engines")
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    case = metrics(options, real, empty)
    show(case)
    report.save(options.results, f"overhead-{setup.name}", {"cases": [case]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
