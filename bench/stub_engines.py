"""A repository of stub engines, which answer zeros at once: an edit's time is then of everything but the engines."""

import json
import re
from pathlib import Path

from bench.watch import ENGINES

MODEL = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

SCALE = {scale}

class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.input, self.output = config["input"][0]["name"], config["output"][0]
        self.batched = config["max_batch_size"] > 0

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        given = pb_utils.get_input_tensor_by_name(request, self.input).as_numpy()
        dims = [int(size) for size in self.output["dims"]]
        if dims[-1] == -1:
            dims[-2:] = [int(size * SCALE) for size in given.shape[-2:]]
        zeros = np.zeros((len(given), *dims) if self.batched else dims, np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor(self.output["name"], zeros)])
"""


def repository(original: Path, folder: Path) -> Path:
    """Writes it into `folder` and returns that; all but the engines are links to `original`."""
    settings = json.loads((original / "edit" / "1" / "pipeline" / "settings.json").read_text("utf-8"))
    multiple = json.loads(settings["own"]["size_rule"])["multiple"]
    for model in original.resolve().iterdir():
        if model.name not in ENGINES:
            (folder / model.name).symlink_to(model)
    for name in ENGINES:
        (folder / name / "1").mkdir(parents=True)
        scale = {"vae_encoder": 1 / multiple, "vae_decoder": multiple}.get(name, 1)
        (folder / name / "1" / "model.py").write_text(MODEL.format(scale=scale))
        config = re.sub(r"parameters .*\n", "", (original / name / "config.pbtxt").read_text())
        config = re.sub(r'backend: "\w+"', 'backend: "python"', config)
        (folder / name / "config.pbtxt").write_text(re.sub(r"kind: KIND_\w+", "kind: KIND_CPU", config))
    return folder
