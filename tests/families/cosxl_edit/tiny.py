"""A tiny CosXL edit checkpoint: SDXL InstructPix2Pix's, with CosXL's sampler, and what diffusers makes of it."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from tests.families import small, tiny
from tests.families.sdxl_instruct_pix2pix import tiny as sdxl

COSINE: dict[str, Any] = {
    "sigma_min": 0.002,
    "sigma_max": 120.0,
    "sigma_data": 1.0,
    "sigma_schedule": "exponential",
    "prediction_type": "v_prediction",
}
"""stabilityai/cosxl's schedule, which is continuous: the arguments of diffusers' EDM samplers for it."""
GUIDANCE = sdxl.GUIDANCE
SAMPLERS: dict[str, dict[str, Any]] = {"EDMDPMSolverMultistepScheduler": COSINE}
FLAGS: tuple[str, ...] = ("--option", "cosxl_edit")
MULTIPLE = sdxl.MULTIPLE


def build(folder: Path) -> Path:
    """Writes the checkpoint into `folder` (must not exist) and returns it."""
    sdxl.build(folder)
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", "EDMEulerScheduler"]}))
    small.scheduler("EDMEulerScheduler", **COSINE).save_pretrained(folder / "scheduler")
    return folder


def adapters(checkpoint: Path) -> dict[str, tuple[Path, float]]:
    """Those of the family's own checkpoint, whose weights are the same: so engines with them are the same, too."""
    return sdxl.adapters(tiny.checkpoint("sdxl_instruct_pix2pix"))


def reference(checkpoint: Path, picture: Image.Image, prompt: str, *, scaled: bool = True, **asked: Any) -> Any:
    """As SDXL's, with `is_cosxl_edit`; without it unless `scaled`."""
    pipeline = sdxl.pipeline(checkpoint)
    pipeline.is_cosxl_edit = scaled
    try:
        return sdxl.reference(checkpoint, picture, prompt, **asked)
    finally:
        pipeline.is_cosxl_edit = False
