"""How the tests ask a running server, and what they compare answers with."""

import base64
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray
from PIL import Image

from embedded.server import Embedded


@dataclass(frozen=True)
class Answer:
    """`pixels` (H, W, 3) uint8 of a raw answer to an edit, or of OpenAI's answer with a PNG."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        assert self.status == 200, self.body
        if "image" not in self.body:
            with Image.open(io.BytesIO(base64.b64decode(self.body["data"][0]["b64_json"]))) as picture:
                return np.asarray(picture)
        raw = base64.b64decode(self.body["image"])
        return np.frombuffer(raw, np.uint8).reshape(self.body["height"], self.body["width"], 3)


class Client:
    """Asks one server: edits through the gateway, figures and statistics from Triton."""

    def __init__(self, server: Embedded) -> None:
        self.server = server

    def edit(self, picture: Image.Image, prompt: str = "make it red", **fields: Any) -> Answer:
        """One edit through HTTP, answered raw unless asked otherwise."""
        image = base64.b64encode(png(picture)).decode()
        body = {"image": {"image": image}, "prompt": prompt, "response_format": "raw"} | fields
        return self._post("/v1/images/edits", body)

    def generate(self, prompt: str, **fields: Any) -> Answer:
        """One picture from text alone through HTTP, in OpenAI's JSON."""
        return self._post("/v1/images/generations", {"prompt": prompt, "output_format": "png"} | fields)

    def _post(self, path: str, body: dict[str, Any]) -> Answer:
        request = urllib.request.Request(
            self.server.http_url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return Answer(answer.status, json.loads(answer.read()), _headers(answer))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.loads(error.read()), _headers(error))

    def status(self, path: str) -> int:
        """The status of a GET."""
        try:
            with urllib.request.urlopen(self.server.http_url + path, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def figure(self, name: str, **labels: str) -> float:
        """The sum of a Triton metric over what matches `labels`."""
        with urllib.request.urlopen(self.server.metrics_url, timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name and all(w in line for w in wanted)]
        assert found, f"no metric {name} {labels}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def denoiser_calls(self) -> float:
        """How often the batcher has called the denoiser, once no edit is in flight: Triton does not see these calls."""
        assert eventually(lambda: self.figure("tritouch_edits_in_flight") == 0)
        return self.figure("tritouch_denoiser_calls_total")

    def executions(self, model: str) -> int:
        """How often Triton has run a model, from its own statistics."""
        with triton_grpc.InferenceServerClient(self.server.triton_grpc) as triton:
            statistics = triton.get_inference_statistics(model, as_json=True)
        return int(statistics["model_stats"][0].get("execution_count", 0))


def _headers(answer: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def eventually(holds: Callable[[], bool], seconds: float = 120.0) -> bool:
    """Whether something comes to hold in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def colours(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture that differs everywhere, the same for the same seed."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def psnr(ours: NDArray[Any], reference: NDArray[Any]) -> float:
    """Peak signal to noise ratio of two uint8 pictures of one shape, in dB; infinite when equal."""
    assert ours.shape == reference.shape
    error = np.mean((ours.astype(np.float64) - reference) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")
