"""Two ways to have pictures edited: the served REST API, and the diffusers pipeline in this process.

Both take and return (H, W, 3) pictures in [0, 1]; guidance is off.
"""

import base64
import io
import json
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image
from rich.progress import track

from demo.edits import Picture


class Request(NamedTuple):
    """What to edit, as asked by whom; the same seed gives the same picture."""

    picture: Picture
    prompt: str
    seed: int = 0


class Editor(Protocol):
    """Edits pictures as asked."""

    def edit(self, request: Request) -> Picture:
        """One edited picture."""
        ...

    def edit_all(self, requests: Sequence[Request]) -> list[Picture]:
        """All edited pictures, in the order of the requests, with progress shown."""
        ...


class ServedEditor:
    """POST /v1/images/edits of a running server; `model` is the name of an adapter, None for the base model."""

    def __init__(self, url: str, steps: int, model: str | None = None, at_once: int = 4) -> None:
        self.url, self.steps, self.at_once = url.rstrip("/") + "/v1/images/edits", steps, at_once
        self.model = model

    def edit(self, request: Request) -> Picture:
        body = {
            "image": {"image": base64.b64encode(as_png(request.picture)).decode()},
            "prompt": request.prompt,
            "num_inference_steps": self.steps,
            "guidance_scale": 0,
            "seed": request.seed,
            "model": self.model,
        }
        post = urllib.request.Request(  # noqa: S310
            self.url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(post, timeout=600) as response:  # noqa: S310
            answer = json.load(response)
        return as_picture(Image.open(io.BytesIO(base64.b64decode(answer["image"]))))

    def edit_all(self, requests: Sequence[Request]) -> list[Picture]:
        with ThreadPoolExecutor(self.at_once) as pool:
            return list(track(pool.map(self.edit, requests), "edits", len(requests)))


class PipelineEditor:
    """The diffusers pipeline in float32, with the adapter of the file `adapter`, if any."""

    def __init__(self, checkpoint: Path, steps: int, adapter: Path | None = None, batch: int = 8) -> None:
        self.pipeline: Any = StableDiffusionInstructPix2PixPipeline.from_pretrained(checkpoint, dtype=torch.float32)
        if adapter:
            self.pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
        self.pipeline.set_progress_bar_config(disable=True)
        self.steps, self.batch = steps, batch

    def edit(self, request: Request) -> Picture:
        return self._edit_together([request])[0]

    def edit_all(self, requests: Sequence[Request]) -> list[Picture]:
        batches = [requests[start : start + self.batch] for start in range(0, len(requests), self.batch)]
        return [picture for batch in track(batches, "edits") for picture in self._edit_together(batch)]

    def _edit_together(self, requests: Sequence[Request]) -> list[Picture]:
        edited = self.pipeline(
            [request.prompt for request in requests],
            image=[as_image(request.picture) for request in requests],
            num_inference_steps=self.steps,
            guidance_scale=1.0,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        ).images
        return [as_picture(image) for image in edited]


def seconds_per_edit(editor: Editor, request: Request, times: int = 5) -> float:
    """Median time of one edit on its own, the first not counted."""
    editor.edit(request)
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        editor.edit(request)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def as_image(picture: Picture) -> Image.Image:
    """An 8-bit image of the picture."""
    return Image.fromarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))


def as_picture(image: Image.Image) -> Picture:
    """The reverse of `as_image`."""
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255


def as_png(picture: Picture) -> bytes:
    """A PNG file of the picture."""
    file = io.BytesIO()
    as_image(picture).save(file, "PNG")
    return file.getvalue()
