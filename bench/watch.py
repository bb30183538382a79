"""What running servers say of themselves: totals of Triton's statistics, of the batcher and of the gateway."""

import time
import urllib.request
from collections.abc import Mapping, Sequence

import tritonclient.grpc as triton_grpc

from embedded.server import Embedded

ENGINES = ("text_encoder", "vae_encoder", "denoiser", "vae_decoder")
PYTHON = ("preprocess", "postprocess")
STAGES = ("condition", "queue", "denoise", "render")
COUNTERS = {
    "turns": "tritouch_turn_seconds_total",
    "calls": "tritouch_denoiser_calls_total",
    "calls.seconds": "tritouch_denoiser_seconds_total",
    "rows": "tritouch_denoiser_rows_total",
    "steps": "tritouch_steps_total",
    "engine": "tritouch_engine_seconds_total",
}
GATEWAY = "tritouch_gateway"
EDITS = f'{GATEWAY}_request_seconds_sum{{route="/v1/images/edits"'
SETTLE_SECONDS = 0.3
"""The batcher publishes its metrics when an edit has left, a moment after the answer."""


def totals(server: Embedded) -> dict[str, float]:
    """Seconds and counts since the servers' start, by short names.

    `MODEL.compute`: Triton's `compute_infer`, which has the hand-over to the model's process in it, but for the
    denoiser's calls that do not go through Triton, of which it is what the engine tells; `MODEL.hits`:
    answers from the response cache; `condition`, `queue`, `denoise`, `render`, `turns`, `calls`, `calls.seconds`,
    `rows`, `steps`: the batcher's; `gateway.request`, `gateway.edit`: seconds of whole requests, and of Triton in them.
    """
    found, gateway = batcher(server), _metrics(f"{server.http_url}/metrics")
    found["gateway.request"] = sum(v for k, v in gateway.items() if k.startswith(EDITS))
    found["gateway.edit"] = gateway.get(f'{GATEWAY}_stage_seconds_sum{{stage="edit"}}', 0.0)
    found |= models(server, (*ENGINES, *PYTHON))
    found["denoiser.compute"] += found.pop("engine")  # of calls that Triton does not see
    return found


def batcher(server: Embedded) -> dict[str, float]:
    """What the batcher alone says: `condition` to `steps` of `totals`."""
    time.sleep(SETTLE_SECONDS)
    said = _metrics(server.metrics_url)
    found = {stage: said[f'tritouch_stage_seconds_total{{stage="{stage}"}}'] for stage in STAGES}
    return found | {short: said[name] for short, name in COUNTERS.items()}


def models(server: Embedded, names: Sequence[str]) -> dict[str, float]:
    """`MODEL.compute` and `MODEL.hits` of these alone, at once."""
    found: dict[str, float] = {}
    with triton_grpc.InferenceServerClient(server.triton_grpc) as triton:
        for name in names:
            model = triton.get_inference_statistics(name, as_json=True)["model_stats"][0]["inference_stats"]
            found[f"{name}.compute"] = int(model["compute_infer"].get("ns", 0)) / 1e9
            found[f"{name}.hits"] = int(model["cache_hit"].get("count", 0))
    return found


def in_flight(server: Embedded) -> float:
    """Edits in flight, as the batcher's gauge has them."""
    found = _metrics(server.metrics_url)
    return sum(value for name, value in found.items() if name.startswith("tritouch_edits_in_flight{"))


def _metrics(url: str) -> Mapping[str, float]:
    """Prometheus' text: name with labels -> value."""
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own servers
        lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line and line[0] != "#"]
    return {name: float(value) for name, value in lines}
