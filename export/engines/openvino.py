"""OpenVINO engines: `model.xml` and `model.bin`, for CPUs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from backends.silent import openvino as ov
from export.engines import Arrays, Run, Serving, Work
from export.errors import ExportError

FILE = "model.xml"
HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVino:
    """Weights are kept in fp16 unless fp32 is asked for; `precision` is what the arithmetic is done in."""

    name = "openvino"
    targets: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("fp32", "bf16")
    traces_narrow = False

    def native(self) -> tuple[str, ...]:
        """fp32, and bf16 on processors with bf16 instructions."""
        return ("fp32", "bf16") if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else ("fp32",)

    def versions(self) -> Mapping[str, str]:
        return {"openvino": ov.get_version()}

    def compile(self, work: Work) -> None:
        """Converts the ONNX file; OpenVINO compiles for the processor when the model is loaded."""
        model = ov.convert_model(work.onnx)
        for port, tensor in zip(model.inputs, work.component.inputs, strict=True):
            port.tensor.set_names({tensor.name})
        for port, tensor in zip(model.outputs, work.component.outputs, strict=True):
            port.tensor.set_names({tensor.name})
        with _one_line(f"{work.folder / FILE} cannot be written (is the disk full?)"):
            ov.save_model(model, work.folder / FILE, compress_to_fp16=work.precision != "fp32")

    def runs_here(self) -> bool:
        return True

    def open(self, work: Work) -> Run:
        properties = {"INFERENCE_PRECISION_HINT": HINTS[work.precision]}
        with _one_line(f"{work.component.name} cannot be compiled"):
            compiled = ov.compile_model(work.folder / FILE, "CPU", properties)

        def run(inputs: Arrays) -> Arrays:
            with _one_line(f"{work.component.name} cannot be run"):
                made = compiled(dict(inputs))
                return {tensor.name: made[tensor.name] for tensor in work.component.outputs}

        return run

    def serving(self, precision: str) -> Serving:
        return Serving("openvino", "KIND_CPU", {"INFERENCE_PRECISION": HINTS[precision]}, in_place=True)


@contextmanager
def _one_line(failure: str) -> Iterator[None]:
    """OpenVINO's RuntimeError as ExportError: its last line is the reason, those before it say where in its source."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ExportError(f"{failure}; OpenVINO says: {lines[-1] if lines else type(error).__name__}") from error
