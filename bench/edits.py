"""The edits that benches make: pictures, sentences and seeds, the same for everyone; how they are sent over HTTP."""

import base64
import io
import itertools
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
"""A picture: (H, W, 3), 8-bit RGB."""

SAMPLES = Path(__file__).resolve().parents[1] / "demo" / "samples"
SENTENCES = (
    "make it night",
    "turn it into a pencil sketch",
    "invert the colours",
    "make it sepia",
    "add a red border",
    "make it black and white",
    "blur the picture",
    "make it brighter",
    "mirror the picture",
    "make it warmer",
    "make it colder",
    "add snow",
)
TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Edit:
    """One edit. `guidance` and `image_guidance` as in diffusers; a `guidance` of 1 is off."""

    picture: Image.Image
    prompt: str
    steps: int
    seed: int
    guidance: float
    image_guidance: float = 1.5

    def file(self, kind: str) -> str:
        """The picture as a file in base64; `kind` is PNG or JPEG."""
        out = io.BytesIO()
        self.picture.save(out, kind, quality=95)
        return base64.b64encode(out.getvalue()).decode()


def series(side: int, steps: int, guidance: float) -> Iterator[Edit]:
    """Edits without end, each of another picture, sentence and seed than the one before; sentences repeat after 12."""
    pictures = [Image.open(file).convert("RGB").resize((side, side)) for file in sorted(SAMPLES.glob("*.jpg"))]
    for number in itertools.count():
        sentence = SENTENCES[number % len(SENTENCES)]
        yield Edit(pictures[number % len(pictures)], sentence, steps, 1000 + number, guidance)


def body(edit: Edit, response_format: str, kind: str = "PNG") -> dict[str, Any]:
    """The edit as the gateway takes it, the picture as a file of this kind."""
    return {
        "image": {"image": edit.file(kind)},
        "prompt": edit.prompt,
        "num_inference_steps": edit.steps,
        "seed": edit.seed,
        "guidance_scale": edit.guidance,
        "image_guidance_scale": edit.image_guidance,
        "response_format": response_format,
    }


def post(url: str, content: dict[str, Any]) -> bytes:
    """The answer's body. Raises urllib.error.HTTPError."""
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})  # noqa: S310 - our own servers
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        return bytes(answer.read())


def through_gateway(url: str, edit: Edit, **more: object) -> Pixels:
    """The edit by the gateway at `url`, answered with bare pixels. `more`: fields besides."""
    answer = json.loads(post(f"{url}/v1/images/edits", {**body(edit, "raw"), **more}))
    return np.frombuffer(base64.b64decode(answer["image"]), np.uint8).reshape(answer["height"], answer["width"], 3)


def psnr(ours: Pixels, reference: Pixels) -> float:
    """Peak signal to noise ratio in dB of two pictures of one size; 99 when they are equal."""
    error = float(np.mean((ours.astype(np.float64) - reference) ** 2))
    return min(99.0, 10 * float(np.log10(255**2 / error))) if error else 99.0
