"""Triton and the gateway on a GPU, with edits over HTTP and gRPC: part `serve` of `bench gpu`.

    python -m bench.gpu_serve [--checkpoint demo|full|klein-4b] [--kind KIND] [--device cuda|cpu] [--work DIR]

Where no TensorRT runs, torch computes in the engines' place (`bench.torch_repository`); then all seconds are torch's,
and what is seen is what is around engines. One line of JSON for each of `CHECKS`; one that does not hold is `failed`,
and the command then exits with 1.
"""

import argparse
import base64
import json
import re
import sys
import time
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import rivals, torch_repository
from bench.edits import Edit, psnr
from bench.gpu_serving import CASES, Case, Emit, Place, Serving, pick, report, timed
from bench.setups import BUILD
from embedded.server import serve
from families.interface import Limits

KINDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "in place": ("tensorrt_rtx", {}),
    "through Triton": ("tensorrt_rtx", {"TRITOUCH_IN_PLACE_BYTES": str(1 << 40)}),
    "GPU tensors": ("tensorrt", {}),
}
"""How the denoiser is called: kind of engine, and Triton's environment."""
LONG = 50
"""Steps of an edit whose caller leaves."""
ON_CPU_PIXELS, ON_CPU_ROWS = 128 * 128, 3
"""A processor makes the largest of each engine's shapes at its start, too: so these are small there."""
LEAST_DB, LEAST_BESIDE_DB = 30.0, 35.0
"""Of a picture beside diffusers' in fp32, and of one made with others in flight beside the same made alone."""
MIXED = ((1.0, 12), (0.75, 20), (1.0, 8), (0.5, 16), (0.75, 10), (1.0, 20), (0.5, 9), (1.0, 14))
"""Of eight edits: height of the picture beside its width, and steps."""
SAID = re.compile(r"memory pool|\(GPU device|model_instance|[Ss]uccessfully loaded|DCGM|NVML|metrics for GPU")
WRONG = re.compile(r"^E\d{4}|Traceback|no pinned memory pool")
GAUGES = ("nv_gpu_memory", "nv_gpu_utilization", "nv_pinned_memory")


def likeness(serving: Serving) -> bool:
    """One edit over HTTP beside diffusers' pipeline on the same device, and over gRPC."""
    (edit, *_) = pick(serving.case.edits(), 1)
    served = serving.edited(edit)
    found, checkpoint = dict[str, Any](), serving.place.checkpoint
    exact = rivals.directly(rivals.pipeline(checkpoint, "fp32"), edit)
    found["psnr_to_fp32_db"] = round(psnr(served, exact), 1)
    if serving.device == "cuda":
        narrow = serving.case.narrow
        half = rivals.pipeline(checkpoint, narrow)
        found[f"diffusers_{narrow}_db"] = round(psnr(rivals.directly(half, edit), exact), 1)
        found[f"diffusers_{narrow}_s"] = [round(value, 3) for value in timed(partial(rivals.directly, half, edit))]
    found["same_by_grpc"] = bool(np.array_equal(served, serving.by_grpc(edit)))
    serving.emit("likeness", **found)
    return bool(found["psnr_to_fp32_db"] >= LEAST_DB and found["same_by_grpc"])


def alone(serving: Serving) -> bool:
    """Seconds of an edit, and where those of its steps go: of pictures and sentences that are new."""
    repeats = 5 if serving.device == "cuda" else 1
    serving.edited(*pick(serving.case.edits(), 1))
    before, taken = serving.counted(), []
    for edit in pick(serving.case.edits(), repeats + 1)[1:]:
        began = time.perf_counter()
        serving.edited(replace(edit, prompt=f"{edit.prompt}, please"))
        taken.append(round(time.perf_counter() - began, 3))
    report(serving, "alone", before, serving.counted(), edit_s=taken)
    return True


def mixed(serving: Serving) -> bool:
    """Eight edits of several sizes, lengths and rows in flight, beside the same made one after another."""
    asked = list[Edit]()
    for (shape, steps), edit in zip(MIXED, serving.case.edits(), strict=False):
        picture = edit.picture.resize((serving.case.side, int(serving.case.side * shape)))
        guidance = serving.case.guidances[len(asked) % 2]
        asked.append(replace(edit, picture=picture, steps=steps, guidance=guidance))
    before, began = serving.counted(), time.perf_counter()
    solo = [serving.edited(edit) for edit in asked]
    between, halfway = serving.counted(), time.perf_counter()
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(serving.edited, asked))
    ended = time.perf_counter()
    after = serving.counted()
    found = [round(psnr(ours, theirs), 1) for ours, theirs in zip(together, solo, strict=True)]
    report(serving, "mixed, one after another", before, between, seconds=round(halfway - began, 2))
    report(serving, "mixed, in flight", between, after, seconds=round(ended - halfway, 2), psnr_db=found)
    return min(found) >= LEAST_BESIDE_DB and after["calls"] - between["calls"] <= between["calls"] - before["calls"]


def streamed(serving: Serving) -> bool:
    """A stream with two previews and every step, which ends with the picture of the same edit without a stream."""
    (edit, *_) = pick(serving.case.edits(), 1)
    whole = serving.edited(edit)
    events = list(serving.stream(edit, partial_images=2, progress=True))
    kinds = [str(event.get("type", "")).removeprefix("image_edit.") for event in events]
    last = np.frombuffer(base64.b64decode(events[-1]["b64_json"]), np.uint8)
    same = kinds[-1] == "completed" and np.array_equal(last, whole.reshape(-1))
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    serving.emit("streamed", events=counts, same_picture=bool(same))
    return bool(same)


def cancelled(serving: Serving) -> bool:
    """A stream that its caller leaves after three steps: its edit ends, and the next one is as before."""
    (edit, *_) = pick(serving.case.edits(), 1)
    whole, before = serving.edited(edit), serving.counted()
    with closing(serving.stream(replace(edit, steps=LONG), progress=True)) as events:
        for event in events:
            if event.get("step", 0) >= 3:
                break
    left = time.monotonic()
    rested = serving.at_rest()
    seconds, after = time.monotonic() - left, serving.counted()
    same = np.array_equal(serving.edited(edit), whole)
    steps = after["steps"] - before["steps"]
    serving.emit("cancelled", steps=steps, of=LONG, seconds_after=round(seconds, 2), next_is_same=bool(same))
    # A processor that is busy may have been done before its caller got to leave.
    return rested and (steps < LONG or serving.device == "cpu") and bool(same)


def said(serving: Serving) -> bool:
    """What Triton's log and its metrics say of the GPU, and of errors."""
    lines = serving.server.triton_log.read_text(errors="replace").splitlines()
    with urllib.request.urlopen(serving.server.metrics_url) as answer:  # noqa: S310 - our own server
        metrics = answer.read().decode().splitlines()
    gauges = {re.split("[{ ]", line)[0]: float(line.rsplit(" ", 1)[1]) for line in metrics if line.startswith(GAUGES)}
    wrong = [line[:300] for line in lines if WRONG.search(line)]
    serving.emit("said", gauges=gauges, log=[line[:200] for line in lines if SAID.search(line)][:40], wrong=wrong[:10])
    return not wrong or serving.device == "cpu"  # where it misses the GPU


CHECKS = (likeness, alone, mixed, streamed, cancelled, said)


def run(place: Place, kind: str, emit: Emit) -> bool:
    """Serves the repository and makes every check. Returns whether all hold; EmbeddedError where it does not start."""
    began, held = time.monotonic(), True
    with serve(place.repository, port=0, env=dict(KINDS[kind][1])) as server:
        emit("started", seconds=round(time.monotonic() - began, 1))
        serving = Serving(server, place, emit)
        for check in CHECKS:
            try:
                fine, why = check(serving), ""
            except Exception as error:  # noqa: BLE001 - the others are still worth their answers
                fine, why = False, f"{type(error).__name__}: {error}"[:500]
            if not fine:
                held = False
                emit(check.__name__, failed=why or "does not hold")
        stopping = time.monotonic()
    emit("stopped", seconds=round(time.monotonic() - stopping, 1))
    return held


def by_torch(case: Case, checkpoint: Path, kind: str, work: Path, device: str = "cuda") -> bool:
    """Makes the repository by torch in `work` and serves it. Returns whether every check holds."""
    engine, _ = KINDS[kind]
    emit = partial(tell, case.name, kind)
    bounds = (case.setup.pixels, case.rows) if device == "cuda" else (ON_CPU_PIXELS, ON_CPU_ROWS)
    began, folder = time.monotonic(), work / f"{case.name}-{engine}"
    chosen = torch_repository.usual(Limits(*bounds, case.images), device)
    repository = torch_repository.repository(checkpoint, folder, engine, device, chosen)
    emit("written", seconds=round(time.monotonic() - began, 1))
    return run(Place(case, checkpoint, repository, device), kind, emit)


def engines(repository: Path, checkpoint: Path) -> bool:
    """Serves TensorRT's own engines of the full-size checkpoint. Returns whether every check holds."""
    kind = "in place"
    return run(Place(CASES["full"], checkpoint, repository, "cuda"), kind, partial(tell, "full, TensorRT", kind))


def tell(checkpoint: str, kind: str, what: str, **metrics: Any) -> None:
    """One line of JSON."""
    print(json.dumps({"part": "serve", "checkpoint": checkpoint, "kind": kind, "what": what, **metrics}), flush=True)


def main() -> int:
    """Serves torch in the engines' place. Returns 1 where a check does not hold."""
    parser = argparse.ArgumentParser("python -m bench.gpu_serve", description="Triton and the gateway on a GPU.")
    parser.add_argument("--checkpoint", choices=tuple(CASES), default="demo")
    parser.add_argument("--kind", choices=tuple(KINDS), action="append", help="default: all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default=rivals.DEVICE)
    parser.add_argument("--work", type=Path, default=BUILD / "gpu-serve", help="where the repositories go")
    parser.add_argument("--side", type=int, help="pixels")
    options = parser.parse_args()
    case = CASES[options.checkpoint]
    case, checkpoint = replace(case, side=options.side or case.side), case.setup.checkpoint()
    kinds = options.kind or KINDS
    held = [by_torch(case, checkpoint, kind, options.work, options.device) for kind in kinds]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
