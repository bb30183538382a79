"""One Triton with its gateway that `bench.gpu_serve` asks for edits, and what it says of itself."""

import base64
import json
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc

from bench import edits, torch_repository, watch
from bench.callers import infer_input
from bench.edits import Edit, Pixels
from bench.setups import KLEIN_4B, SETUPS, Setup
from embedded.server import Embedded
from gateway import tensors

Emit = Callable[..., None]
PATIENCE, LOOK = 60.0, 0.02


@dataclass(frozen=True)
class Case:
    """Edits of one checkpoint, of `side` pixels and so many steps; of calls of up to so many rows, and of `images` of a
    request, None where the family says how many. `guidances`: text scales of edits that are mixed. `narrow`: what
    people take diffusers in on a GPU."""

    setup: Setup
    side: int
    steps: int = 20
    rows: int = 12
    images: int | None = None
    guidances: tuple[float, float] = (1.0, 7.5)
    narrow: str = "fp16"

    @property
    def name(self) -> str:
        """The checkpoint's."""
        return self.setup.name

    @property
    def guidance(self) -> float:
        """The text scale."""
        return self.setup.guidance

    def edits(self) -> Iterator[Edit]:
        """Edits without end."""
        return edits.series(self.side, self.steps, self.guidance)


@dataclass(frozen=True)
class Place:
    """What is served, of which checkpoint, and where torch computes."""

    case: Case
    checkpoint: Path
    repository: Path
    device: str


CASES = {
    "demo": Case(SETUPS["demo"], 256),
    "full": Case(SETUPS["full"], 512),
    "klein-4b": Case(KLEIN_4B, 1024, steps=4, rows=4, images=1, guidances=(1.0, 1.0), narrow="bf16"),
}


class Serving:
    """One running server, what is asked of it, and what it says of itself."""

    def __init__(self, server: Embedded, place: Place, emit: Emit) -> None:
        self.server, self.place, self.emit = server, place, emit
        self.case, self.device = place.case, place.device

    def edited(self, edit: Edit) -> Pixels:
        """Over HTTP."""
        return edits.through_gateway(self.server.http_url, edit)

    def by_grpc(self, edit: Edit) -> Pixels:
        """By Triton alone."""
        files = [base64.b64decode(edit.file("PNG"))]
        scales = (edit.guidance, edit.image_guidance)
        asked = tensors.inputs(tensors.Edit(files, edit.prompt, edit.steps, *scales, edit.seed, "", "raw"), None)
        with triton_grpc.InferenceServerClient(self.server.triton_grpc) as triton:
            answer = triton.infer("edit", [infer_input(one.name, one.datatype, one.values) for one in asked])
        width, height = answer.as_numpy("size").tolist()
        return np.frombuffer(answer.as_numpy("image")[0], np.uint8).reshape(height, width, 3)

    def stream(self, edit: Edit, **more: object) -> Generator[Mapping[str, Any], None, None]:
        """The events of an edit over HTTP; who leaves early closes the stream."""
        content = {**edits.body(edit, "raw"), "stream": True, **more}
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.server.http_url}/v1/images/edits",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=edits.TIMEOUT_SECONDS) as answer:  # noqa: S310
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    def at_rest(self) -> bool:
        """Waits until nothing is in flight. Returns whether that came."""
        end = time.monotonic() + PATIENCE
        while watch.in_flight(self.server) and time.monotonic() < end:
            time.sleep(LOOK)
        return watch.in_flight(self.server) == 0

    def counted(self) -> dict[str, float]:
        """The batcher's totals, what the engine and copies took, once nothing is in flight."""
        self.at_rest()
        found = watch.batcher(self.server)
        found["engine"] += watch.models(self.server, ["denoiser"])["denoiser.compute"]
        copies = torch_repository.copied(self.place.repository)
        return found | {name: float(value) for name, value in copies._asdict().items()}


def report(serving: Serving, what: str, before: Mapping[str, float], after: Mapping[str, float], **more: Any) -> None:
    """What the calls between two counts took, by call."""
    spent = {name: after[name] - before[name] for name in after}
    calls = max(1.0, spent["calls"])
    serving.emit(
        what,
        **more,
        calls=int(spent["calls"]),
        rows_a_call=round(spent["rows"] / calls, 2),
        turn_ms=round(spent["turns"] / calls * 1e3, 2),
        call_ms=round(spent["calls.seconds"] / calls * 1e3, 2),
        engine_ms=round(spent["engine"] / calls * 1e3, 2),
        engine_share_of_turns=round(spent["engine"] / max(1e-9, spent["turns"]), 3),
        copies_a_call=[round((spent["to_calls"]) / calls, 2), round(spent["from_calls"] / calls, 2)],
        kb_a_call=[round(spent["to_bytes"] / calls / 1e3, 1), round(spent["from_bytes"] / calls / 1e3, 1)],
    )


def pick(some: Iterator[Edit], count: int) -> list[Edit]:
    """The first so many."""
    return [next(some) for _ in range(count)]


def timed(call: Callable[[], object], repeats: int = 3) -> list[float]:
    """Seconds of each of so many calls, after one that is not counted."""
    call()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken
