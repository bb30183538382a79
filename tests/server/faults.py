"""A repository whose `denoiser` can be made slow or failing while it serves: the real engine behind a Python model."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROXY = """
import json, sys, time
from pathlib import Path
import triton_python_backend_utils as pb_utils

sys.path.append({root!r})
from backends.channel import Channels
from backends.common import answer
from backends.signature import read_signature

FAULTS = Path(__file__).parents[2] / "faults.json"

class TritonPythonModel:
    def initialize(self, args):
        self.signature = read_signature(json.loads(args["model_config"]))
        self.channels = Channels(self.signature, self.infer)

    def execute(self, requests):
        return answer(requests, self.signature, self.channels)

    def infer(self, rows, _place=None):
        faults = json.loads(FAULTS.read_text())
        time.sleep(faults["delay"])
        if faults["failures"]:
            FAULTS.write_text(json.dumps(faults | {{"failures": faults["failures"] - 1}}))
            raise RuntimeError("secret words of the engine")
        inputs = [pb_utils.Tensor(name, array) for name, array in rows.items()]
        call = pb_utils.InferenceRequest(model_name="engine", requested_output_names=["prediction"], inputs=inputs)
        found = call.exec()
        if found.has_error():
            raise RuntimeError(found.error().message())
        return {{"prediction": pb_utils.get_output_tensor_by_name(found, "prediction").as_numpy().copy()}}
"""


class Faults:
    """The repository in `folder`, and the switch that says how its `denoiser` behaves."""

    def __init__(self, folder: Path, original: Path) -> None:
        self.repository = folder / "repository"
        self.repository.mkdir()
        self._switch = self.repository / "faults.json"
        for model in original.iterdir():
            if model.name != "denoiser":
                (self.repository / model.name).symlink_to(model)
        engine, proxy = self.repository / "engine", self.repository / "denoiser"
        engine.mkdir()
        (engine / "1").symlink_to(original / "denoiser" / "1")
        config = (original / "denoiser" / "config.pbtxt").read_text()
        (engine / "config.pbtxt").write_text(config.replace('name: "denoiser"', 'name: "engine"'))
        (proxy / "1").mkdir(parents=True)
        (proxy / "1" / "model.py").write_text(PROXY.format(root=str(ROOT)))
        config = re.sub(r"parameters .*\n", "", config)
        (proxy / "config.pbtxt").write_text(re.sub(r'backend: "\w+"', 'backend: "python"', config))
        self.set()

    def set(self, delay: float = 0.0, failures: int = 0) -> None:
        """From its next call on: seconds that each call waits, and how many of the next calls fail."""
        new = self._switch.with_suffix(".new")
        new.write_text(json.dumps({"delay": delay, "failures": failures}))
        new.replace(self._switch)
