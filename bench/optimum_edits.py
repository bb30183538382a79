"""optimum-intel's pipeline of FLUX.2 klein, run by its own environment: an edit a line in, a picture a line out.

    build/rivals/optimum-intel/bin/python -P bench/optimum_edits.py CHECKPOINT ENGINES

It has no server: this is its pipeline as its documentation calls it, behind a pipe. The checkpoint is exported into
ENGINES the first time, with its weights as they are. Says `ready` before it reads; pictures are PNG files in base64.
Imports nothing of ours, since nothing of ours is installed there.
"""

import base64
import io
import json
import os
import sys
from pathlib import Path
from typing import Any


def pipeline(checkpoint: Path, engines: Path) -> Any:
    """Loads the engines, in the precision that OpenVINO itself chooses; exports them where there are none."""
    from optimum.intel import OVFlux2KleinPipeline  # noqa: PLC0415 - seconds

    if not (engines / "model_index.json").exists():
        OVFlux2KleinPipeline.from_pretrained(
            checkpoint, export=True, compile=False, load_in_8bit=False
        ).save_pretrained(engines)
    loaded = OVFlux2KleinPipeline.from_pretrained(engines)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def edited(pipeline: Any, asked: dict[str, Any]) -> str:
    """One edit; the picture as a PNG file in base64."""
    import torch  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    picture = Image.open(io.BytesIO(base64.b64decode(asked["image"]))).convert("RGB")
    answer = pipeline(
        prompt=asked["prompt"],
        image=picture,
        num_inference_steps=asked["steps"],
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(asked["seed"]),
    )
    out = io.BytesIO()
    answer.images[0].save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def main() -> None:
    """Answers until the input ends. What libraries print goes to stderr."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    answers, sys.stdout = sys.stdout, sys.stderr
    loaded = pipeline(Path(sys.argv[1]), Path(sys.argv[2]))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(edited(loaded, json.loads(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
