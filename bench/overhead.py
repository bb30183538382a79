"""Where the time of an edit goes: milliseconds a step in the engine, in the call to it, and in the batcher's own work.

    python -m bench.overhead [--repository DIR] [--edits 5] [--steps 50] [--side 256]

Edits run one at a time through the real gateway and Triton; the figures are Triton's own statistics and metrics. The
batcher's own work is then split in this process, where the same code runs against a denoiser that costs nothing.
"""

import argparse
import base64
import io
import json
import statistics
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
from PIL import Image

from embedded.server import Embedded, serve
from families import load
from families.plan import denoise_alone
from families.schedules import NoiseSchedules

TOTALS = ("tritouch_turn_seconds_total", "tritouch_denoiser_seconds_total", "tritouch_steps_total")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, help="model repository (default: the checkout's)")
    parser.add_argument("--edits", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    with serve(options.repository, port=0) as server:
        edit(server, options.side, 2)
        before = snapshot(server)
        seconds = [edit(server, options.side, options.steps) for _ in range(options.edits)]
        after = snapshot(server)
        repository = server.repository
    spent = {name: after[name] - before[name] for name in after}
    steps = spent["tritouch_steps_total"]
    turn, call = spent["tritouch_turn_seconds_total"] / steps, spent["tritouch_denoiser_seconds_total"] / steps
    engine = spent["engine"] / steps
    whole = statistics.median(seconds)
    print(
        f"{options.edits} edits, {options.side} x {options.side}, {options.steps} steps, one row: median {whole:.3f} s"
    )
    print(f"a step            {turn * 1e3:8.2f} ms")
    print(f"  engine          {engine * 1e3:8.2f} ms  {engine / turn:6.1%}")
    print(f"  call to it      {(call - engine) * 1e3:8.2f} ms  {(call - engine) / turn:6.1%}  (BLS, backend, tensors)")
    print(f"  batcher's own   {(turn - call) * 1e3:8.2f} ms  {(turn - call) / turn:6.1%}")
    print(f"around the steps  {(whole - turn * options.steps) * 1e3:8.2f} ms an edit  (gateway, condition, render)")
    in_process(repository, options.side)


def edit(server: Embedded, side: int, steps: int) -> float:
    """Seconds of one edit over HTTP."""
    out = io.BytesIO()
    Image.effect_noise((side, side), 60).convert("RGB").save(out, "JPEG")
    image = base64.b64encode(out.getvalue()).decode()
    body = json.dumps({"image": {"image": image}, "prompt": "make it night", "num_inference_steps": steps, "seed": 1})
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.http_url}/v1/images/edits", body.encode(), headers)  # noqa: S310
    began = time.perf_counter()
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        answer.read()
    return time.perf_counter() - began


def snapshot(server: Embedded) -> dict[str, float]:
    """Totals since Triton's start; `engine` is what the unet's backend says of its own computing, in seconds."""
    with urllib.request.urlopen(server.metrics_url) as answer:  # noqa: S310
        lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
    found = {line[0].split("{")[0]: float(line[1]) for line in lines if line[0].split("{")[0] in TOTALS}
    with triton_grpc.InferenceServerClient(server.triton_grpc) as triton:
        unet = triton.get_inference_statistics("unet", as_json=True)["model_stats"][0]
    return found | {"engine": int(unet["inference_stats"]["compute_infer"]["ns"]) / 1e9}


def in_process(repository: Path, side: int) -> None:
    """The loop's own work a step, with a denoiser that answers at once: the schedule's step, and the rest."""
    pipeline = repository / "edit" / ".tritouch" / "current" / "pipeline"
    settings = json.loads((pipeline / "pipeline.json").read_text("utf-8"))
    schedules = NoiseSchedules(pipeline / "scheduler" / "scheduler_config.json", settings["scheduler"])
    plan = load(settings["family"], "denoising").plan
    table = json.loads((repository / "unet" / "component.json").read_text("utf-8"))["component"]
    axes = {tensor["name"]: tensor["axes"] for tensor in (*table["inputs"], *table["outputs"])}
    latents = side // settings["picture"]["multiple"]
    answer = np.zeros((1, axes["prediction"][0], latents, latents), np.float32)
    tensors: dict[str, Any] = {
        "encoder_hidden_states": np.zeros((1, *axes["encoder_hidden_states"]), np.float32),
        "image_latents": answer,
        "guidance": np.array([1.0, 1.0], np.float32),
    }
    loop = per_step(lambda: denoise_alone(plan(tensors, 50, 1, schedules), lambda _rows: answer))
    print(f"in one process: the whole loop without an engine {loop * 1e3:.2f} ms a step ({settings['scheduler']})")


def per_step(run: Callable[[], object], steps: int = 50, times: int = 9) -> float:
    """Median seconds a step."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) / steps


if __name__ == "__main__":
    main()
