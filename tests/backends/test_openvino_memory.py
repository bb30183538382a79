"""What an engine of OpenVINO keeps of sizes that it has computed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAYERS, SIDES = 24, range(3, 19)
"""Convolutions, none like another: each has a kernel made for every size of the input."""
FILLING, SIZES = 48, 192
"""More sizes than fill what is kept, and four times as many."""

ENGINE = """
import json, sys, types
from pathlib import Path
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
import numpy as np
from backends.openvino.model import Engine, Options
from backends.signature import Signature, TensorSpec

def anonymous():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))

floats = np.dtype(np.float32)
specs = TensorSpec("x", floats, (1, 8, -1, -1)), TensorSpec("y", floats, (1, 8, -1, -1))
options = Options(properties={"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"})
engine = Engine(Path(sys.argv[1]), options, Signature((specs[0],), (specs[1],), False))
held = []
for height, width in json.loads(sys.argv[2]):
    engine.infer({"x": np.zeros((1, 8, height, width), np.float32)})
    held.append(anonymous())
print(json.dumps(held))
"""


def save_convolutions(file: Path) -> None:
    import numpy as np
    from openvino import opset15 as op

    from backends.silent import openvino as ov

    x = op.parameter([1, 8, -1, -1], np.float32, name="x")
    y = x
    for layer in range(LAYERS):
        pads = [layer % 6, layer // 6]
        weights = op.constant(np.full((8, 8, 1 + 2 * pads[0], 1 + 2 * pads[1]), 0.01, np.float32))
        y = op.convolution(y, weights, [1, 1], pads, pads, [1, 1])
    model = ov.Model([y], [x], "convolutions")
    model.inputs[0].set_names({"x"})
    model.outputs[0].set_names({"y"})
    ov.save_model(model, file, compress_to_fp16=False)


@pytest.mark.long
def test_an_engine_grows_no_more_once_it_has_met_many_sizes(tmp_path: Path) -> None:
    file = tmp_path / "model.xml"
    save_convolutions(file)
    sizes = [(height, width) for height in SIDES for width in SIDES][:SIZES]
    command = [sys.executable, "-c", ENGINE, str(file), json.dumps(sizes)]
    held = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    first, later = held[FILLING - 1] - held[0], held[-1] - held[FILLING - 1]
    assert first > 0
    assert later < first, f"{held[:: FILLING // 4]} KiB"
