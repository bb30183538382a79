"""What a user would run instead: diffusers' own pipeline, and the plain server that people write around it."""

import base64
import io
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Response
from PIL import Image
from pydantic import BaseModel

from bench.edits import Edit, Pixels, post
from export.engines.openvino import OpenVino

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NARROW = "fp16" if DEVICE == "cuda" else OpenVino().native()[-1]
"""The fastest type that people take on this kind of machine: bf16 on processors that have it, fp32 on others."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def pipeline(checkpoint: Path, precision: str, *, compiled: bool = False) -> Any:
    """diffusers' pipeline of a checkpoint, on the GPU where there is one. `compiled`: its denoiser by torch.compile."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # transformers obeys it too; the bars here are ours
    from diffusers import DiffusionPipeline  # noqa: PLC0415 - seconds
    from diffusers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()
    loaded = DiffusionPipeline.from_pretrained(checkpoint, torch_dtype=DTYPES[precision]).to(DEVICE)
    loaded.set_progress_bar_config(disable=True)
    if compiled:
        denoiser = "unet" if hasattr(loaded, "unet") else "transformer"
        setattr(loaded, denoiser, torch.compile(getattr(loaded, denoiser)))
    return loaded


def edited(pipeline: Any, edit: Edit) -> Image.Image:
    """One edit by a pipeline."""
    more = {"image_guidance_scale": edit.image_guidance} if hasattr(pipeline, "unet") else {}
    answer = pipeline(
        prompt=edit.prompt,
        image=edit.picture,
        num_inference_steps=edit.steps,
        guidance_scale=edit.guidance,
        **more,
        generator=torch.Generator().manual_seed(edit.seed),
    )
    return answer.images[0]  # type: ignore[no-any-return]


def directly(pipeline: Any, edit: Edit) -> Pixels:
    """One edit by a pipeline in this process."""
    return np.asarray(edited(pipeline, edit))


class Body(BaseModel):
    """One edit, as the plain server takes it; `image` is a file in base64."""

    image: str
    prompt: str
    steps: int
    seed: int
    guidance: float
    image_guidance: float


def app(pipeline: Any) -> FastAPI:
    """The plain server: one edit at a time, a PNG file for an answer."""
    lock, plain = threading.Lock(), FastAPI()

    @plain.post("/edit")
    def edit(body: Body) -> Response:
        picture = Image.open(io.BytesIO(base64.b64decode(body.image))).convert("RGB")
        asked = Edit(picture, body.prompt, body.steps, body.seed, body.guidance, body.image_guidance)
        with lock:
            picture = edited(pipeline, asked)
        out = io.BytesIO()
        picture.save(out, "PNG")
        return Response(out.getvalue(), media_type="image/png")

    return plain


@contextmanager
def served(pipeline: Any) -> Iterator[str]:
    """Serves a pipeline from a thread of this process, so that its weights are not in memory twice; yields the URL."""
    server = uvicorn.Server(uvicorn.Config(app(pipeline), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def through_plain_server(url: str, edit: Edit) -> Pixels:
    """One edit by the plain server at `url`."""
    content = {
        "image": edit.file("PNG"),
        "prompt": edit.prompt,
        "steps": edit.steps,
        "seed": edit.seed,
        "guidance": edit.guidance,
        "image_guidance": edit.image_guidance,
    }
    return np.asarray(Image.open(io.BytesIO(post(f"{url}/edit", content))))
