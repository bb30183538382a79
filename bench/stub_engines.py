"""A repository of stub engines, which answer zeros: at once, so that an edit's time is of everything else, or after a
sleep, so that several servers on one machine take nothing from one another.

The denoiser takes so long as is asked for while it serves, without the processor, as a GPU would, and writes down when.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.setups import ROOT
from bench.watch import ENGINES

MODEL = """
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.append({root!r})
from backends.channel import Channels
from backends.common import answer
from backends.signature import read_signature

SCALE = {scale}
CALL, ROW = {seconds}
TAKES, CALLS = Path({folder!r}, "milliseconds"), Path({folder!r}, "calls")

class TritonPythonModel:
    def initialize(self, args):
        self.signature = read_signature(json.loads(args["model_config"]))
        self.channels = Channels(self.signature, self.infer)
        self.known = {{}}
        self.calls = os.open(CALLS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def execute(self, requests):
        return answer(requests, self.signature, self.channels)

    def infer(self, inputs, place=None):
        began, given = time.monotonic(), inputs[self.signature.inputs[0].name].shape
        outputs = {{spec.name: self.zeros(given, spec.shape) for spec in self.signature.outputs}}
        if place:
            outputs = {{name: self.at(place, array) for name, array in outputs.items()}}
        if CALL or ROW:
            time.sleep(CALL + ROW * given[0])
        if TAKES.exists():
            time.sleep(max(0, began + float(TAKES.read_text()) / 1e3 - time.monotonic()))
            os.write(self.calls, np.array([began, time.monotonic(), given[0], np.prod(given[1:])]).tobytes())
        return outputs

    def at(self, place, array):
        found = place(array.dtype, array.shape)
        found[...] = array
        return found

    def zeros(self, given, shape):
        # Rows stay what they are; of pictures and tokens the last axes do, or are scaled.
        skipped = len(given) - len(shape)
        sizes = [int(given[n + skipped] * SCALE) if size == -1 and n else size for n, size in enumerate(shape)]
        sizes[0] = given[0] if shape[0] == -1 else shape[0]
        if tuple(sizes) not in self.known:
            self.known[tuple(sizes)] = np.zeros(sizes, np.float32)
        return self.known[tuple(sizes)]
"""


Sleeps = Mapping[str, tuple[float, float]]
"""By engine: seconds of a call, and of each of its rows."""


def repository(original: Path, folder: Path, sleeps: Sleeps | None = None) -> Path:
    """Writes it into `folder` and returns that; all but the engines are links to `original`."""
    settings = json.loads((original / "edit_stream" / "1" / "pipeline" / "settings.json").read_text("utf-8"))
    multiple = json.loads(settings["size_rule"])["multiple"]
    for model in original.resolve().iterdir():
        if model.name not in ENGINES:
            (folder / model.name).symlink_to(model)
    for name in ENGINES:
        (folder / name / "1").mkdir(parents=True)
        scale = {"vae_encoder": 1 / multiple, "vae_decoder": multiple}.get(name, 1)
        seconds = (sleeps or {}).get(name, (0.0, 0.0))
        text = MODEL.format(scale=scale, root=str(ROOT), folder=str(folder / name), seconds=seconds)
        (folder / name / "1" / "model.py").write_text(text)
        config = re.sub(r"parameters .*\n", "", (original / name / "config.pbtxt").read_text())
        config = re.sub(r'backend: "\w+"', 'backend: "python"', config)
        (folder / name / "config.pbtxt").write_text(re.sub(r"kind: KIND_\w+", "kind: KIND_CPU", config))
    return folder


class Call(NamedTuple):
    """Of the denoiser: seconds on the system's monotonic clock, rows, and numbers of a row of its first input."""

    began: float
    ended: float
    rows: int
    size: int


def takes(folder: Path, milliseconds: float) -> None:
    """Has each call of the denoiser in the repository `folder` take so long from now on, and forgets those before."""
    (folder / "denoiser" / "milliseconds").write_text(str(milliseconds))
    (folder / "denoiser" / "calls").write_bytes(b"")


def calls(folder: Path) -> list[Call]:
    """Those of the denoiser since `takes`, in their order."""
    numbers = np.fromfile(folder / "denoiser" / "calls").reshape(-1, 4)
    return [Call(began, ended, int(rows), int(size)) for began, ended, rows, size in numbers.tolist()]
