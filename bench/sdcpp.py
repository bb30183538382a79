"""stable-diffusion.cpp's own server, asked for edits over HTTP.

It reads a diffusers folder whose text encoder has the names that transformers gave its weights up to version 4, which
are written anew for it beside links to the rest. It computes with the type of its weights, here fp16. Its noise is its
own: the same seed makes another picture than diffusers', so that pictures are not compared.

Asked is by the route of stable-diffusion-webui, the picture as a reference. Its `/v1/images/edits` takes the picture as
a start as well, which encodes it twice and leaves out a quarter of the steps.
"""

import base64
import io
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.edits import Edit, Pixels, post

START_SECONDS = 300.0
FLAGS = ("--sampling-method", "euler_a", "--scheduler", "discrete", "--disable-image-metadata")


@contextmanager
def serving(environment: Path, checkpoint: Path) -> Iterator[Callable[[Edit], Pixels]]:
    """The server of `environment` on a checkpoint, until left. Yields what makes one edit by it.

    Ends the program in a line where the server ends, or is not ready within `START_SECONDS`.
    """
    packages, log = next(environment.glob("lib/python*/site-packages")), environment / "sd-server.log"
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    program, model = str(packages / "bin" / "sd-server"), str(readable(checkpoint))
    command = [program, "--model", model, "--listen-port", str(port), *FLAGS]
    env = {**os.environ, "LD_LIBRARY_PATH": str(packages / "lib")}
    with log.open("w") as told, subprocess.Popen(command, env=env, stdout=told, stderr=told) as server:
        try:
            _wait(server, f"http://127.0.0.1:{port}", log)
            yield partial(edited, f"http://127.0.0.1:{port}")
        finally:
            server.kill()  # it finishes an edit before it heeds SIGTERM


def readable(checkpoint: Path) -> Path:
    """A folder beside `checkpoint` that the server reads, made the first time."""
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - imports torch

    folder = checkpoint.with_name(f"{checkpoint.name}-sdcpp")
    text = folder / "text_encoder" / "model.safetensors"
    if not text.exists():
        text.parent.mkdir(parents=True, exist_ok=True)
        for part in ("unet", "vae"):
            (folder / part).unlink(missing_ok=True)
            (folder / part).symlink_to((checkpoint / part).resolve())
        weights = load_file(checkpoint / "text_encoder" / "model.safetensors")
        save_file({f"text_model.{name.removeprefix('text_model.')}": weight for name, weight in weights.items()}, text)
    return folder


def _wait(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Until the server answers."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            raise SystemExit(f"bench: stable-diffusion.cpp's server has ended: {log} says why")
        try:
            with urllib.request.urlopen(f"{url}/v1/models", timeout=5):  # noqa: S310 - our own server
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"bench: stable-diffusion.cpp's server was not ready in {START_SECONDS:.0f} s: see {log}")


def edited(url: str, edit: Edit) -> Pixels:
    """One edit by the server at `url`. Raises ValueError where its answer has another size."""
    answer = json.loads(post(f"{url}/sdapi/v1/txt2img", body(edit)))
    picture = Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))).convert("RGB")
    if picture.size != edit.picture.size:
        raise ValueError(f"stable-diffusion.cpp answered {picture.size} to a picture of {edit.picture.size}")
    return np.asarray(picture)


def body(edit: Edit) -> dict[str, Any]:
    """The edit as the server takes it. Equal scales are one row a step at 1, as in diffusers below a scale of 1."""
    image_guidance = edit.image_guidance if edit.guidance > 1 else edit.guidance
    more = {"sample_params": {"guidance": {"img_cfg": image_guidance}}}
    return {
        "prompt": f"{edit.prompt}<sd_cpp_extra_args>{json.dumps(more)}</sd_cpp_extra_args>",
        "width": edit.picture.width,
        "height": edit.picture.height,
        "steps": edit.steps,
        "cfg_scale": edit.guidance,
        "seed": edit.seed,
        "extra_images": [edit.file("PNG")],
    }
