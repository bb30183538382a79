"""A repository of stub engines, which answer zeros at once: an edit's time is then of everything but the engines."""

import json
import re
from pathlib import Path

from bench.setups import ROOT
from bench.watch import ENGINES

MODEL = """
import json
import sys

import numpy as np

sys.path.append({root!r})
from backends.common import answer
from backends.in_place import Memories
from backends.signature import read_signature

SCALE = {scale}

class TritonPythonModel:
    def initialize(self, args):
        self.signature, self.memories = read_signature(json.loads(args["model_config"])), Memories()
        self.known = {{}}

    def execute(self, requests):
        return answer(requests, self.signature, self.infer, self.memories)

    def infer(self, inputs):
        given = inputs[self.signature.inputs[0].name].shape
        return {{spec.name: self.zeros(given, spec.shape) for spec in self.signature.outputs}}

    def zeros(self, given, shape):
        # Rows stay what they are; of pictures and tokens the last axes do, or are scaled.
        skipped = len(given) - len(shape)
        sizes = [int(given[n + skipped] * SCALE) if size == -1 and n else size for n, size in enumerate(shape)]
        sizes[0] = given[0] if shape[0] == -1 else shape[0]
        if tuple(sizes) not in self.known:
            self.known[tuple(sizes)] = np.zeros(sizes, np.float32)
        return self.known[tuple(sizes)]
"""


def repository(original: Path, folder: Path) -> Path:
    """Writes it into `folder` and returns that; all but the engines are links to `original`."""
    settings = json.loads((original / "edit_stream" / "1" / "pipeline" / "settings.json").read_text("utf-8"))
    multiple = json.loads(settings["size_rule"])["multiple"]
    for model in original.resolve().iterdir():
        if model.name not in ENGINES:
            (folder / model.name).symlink_to(model)
    for name in ENGINES:
        (folder / name / "1").mkdir(parents=True)
        scale = {"vae_encoder": 1 / multiple, "vae_decoder": multiple}.get(name, 1)
        (folder / name / "1" / "model.py").write_text(MODEL.format(scale=scale, root=str(ROOT)))
        config = re.sub(r"parameters .*\n", "", (original / name / "config.pbtxt").read_text())
        config = re.sub(r'backend: "\w+"', 'backend: "python"', config)
        (folder / name / "config.pbtxt").write_text(re.sub(r"kind: KIND_\w+", "kind: KIND_CPU", config))
    return folder
