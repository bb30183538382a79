"""Runs an ONNX file in OpenVINO on the processor: the numeric check where the engine itself cannot run."""

from pathlib import Path

from backends.silent import openvino as ov
from export.engines import Arrays, Run
from export.engines.standard import standard
from families.interface import Component

NAME = "OpenVINO"


def open_onnx(file: Path, component: Component) -> Run:
    """The ONNX file, ready to run: its weights as they are narrowed, its arithmetic in fp32 where that is possible."""
    compiled = ov.Core().compile_model(standard(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(inputs: Arrays) -> Arrays:
        made = compiled(dict(inputs))
        return {tensor.name: made[place] for place, tensor in enumerate(component.outputs)}

    return run
