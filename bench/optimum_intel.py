"""optimum-intel's pipeline of FLUX.2 klein, asked over a pipe, since it has no server: by `bench/optimum_edits.py`.

Its noise is torch's, as diffusers' is, so that pictures are compared.
"""

import base64
import io
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, cast

import numpy as np
from PIL import Image

from bench.edits import Edit, Pixels

SCRIPT = Path(__file__).with_name("optimum_edits.py")


@contextmanager
def serving(environment: Path, checkpoint: Path) -> Iterator[Callable[[Edit], Pixels]]:
    """Its pipeline on a checkpoint, until left. Yields what makes one edit by it.

    What it exports lies beside the checkpoint. Ends the program in a line where the pipeline ends.
    """
    engines, log = checkpoint.with_name(f"{checkpoint.name}-optimum"), environment / "optimum-intel.log"
    python = str(environment / "bin" / "python")
    # -P: else what lies beside the script goes before packages of the same name.
    command = [python, "-P", str(SCRIPT), str(checkpoint), str(engines)]
    pipe = subprocess.PIPE
    with log.open("w") as told, subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=told, text=True) as process:
        try:
            _line(process, log)
            yield partial(edited, process, log)
        finally:
            process.kill()


def edited(process: "subprocess.Popen[str]", log: Path, edit: Edit) -> Pixels:
    """One edit by the process."""
    asked = {"image": edit.file("PNG"), "prompt": edit.prompt, "steps": edit.steps, "seed": edit.seed}
    asking = cast("IO[str]", process.stdin)
    asking.write(json.dumps(asked) + "\n")
    asking.flush()
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(_line(process, log)))))


def _line(process: "subprocess.Popen[str]", log: Path) -> str:
    """What it says next."""
    if not (line := cast("IO[str]", process.stdout).readline()):
        raise SystemExit(f"bench: optimum-intel's pipeline has ended: {log} says why")
    return line
