"""OpenVINO engines: `model.xml` and `model.bin`, for CPUs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from backends import processor
from backends.silent import openvino as ov
from export.component.schemes import INT7, LAYER_KINDS, SCHEMES, Scheme
from export.engines import Arrays, Run, Serving, Work, upsampling
from export.errors import ExportError
from families.interface import Component

FILE = "model.xml"
NARROW = ("f16", "bf16")
HINTS = {"fp32": "f32", "bf16": "bf16"}
CONVOLVED = 640
"""Inputs from which on a linear layer gains more in AVX2 as a convolution than the copies around it take, which are of
bytes before it, and of floats behind."""


class OpenVino:
    """`precision` is what the arithmetic is done in."""

    name = "openvino"
    targets: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("fp32", "bf16", "int8", "w8", "w4")
    traces_narrow = False

    def native(self) -> tuple[str, ...]:
        """fp32, and bf16 on processors with bf16 instructions, unless it is for lesser ones."""
        able = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") and processor.features()
        return ("fp32", "bf16") if able else ("fp32",)

    def refuses(self, precision: str) -> str:  # noqa: ARG002 - processors do all of it, if slowly
        return ""

    def versions(self) -> Mapping[str, str]:
        return {"openvino": ov.get_version()}

    def computes(self, precision: str) -> str:
        """The narrowest float that is native here."""
        return self.native()[-1] if precision in SCHEMES else precision

    def scheme(self, precision: str) -> Scheme | None:
        """Without VNNI weights that cannot overflow in int8, and without AVX-512, too, of convolutions alone: products
        of matrices are slower in int8 there than in fp32. Wide ones are faster as convolutions than both."""
        scheme, found = SCHEMES.get(precision), processor.features()
        if scheme is None or not scheme.activations or found & processor.VNNI:
            return scheme
        if found & processor.AVX512:
            return replace(scheme, largest=INT7)
        return replace(scheme, kinds=("convolution",), largest=INT7, convolved=CONVOLVED)

    def keeps(self, precision: str, lying: str | None) -> str:
        """Narrow weights as they are, and unless fp32 is asked for wide ones in fp16."""
        if lying in {"fp16", "bf16"}:
            return lying
        return "fp32" if precision == "fp32" else "fp16"

    def takes(self, precision: str, numbers: int) -> tuple[int, int]:
        """A packed copy of the weights, as wide as the arithmetic; at most, where some kinds of layers stay wide."""
        scheme = self.scheme(precision)
        narrow = scheme is not None and scheme.kinds == LAYER_KINDS
        wide = 32 if self.computes(precision) == "fp32" else 16
        return numbers * (scheme.bits if scheme and narrow else wide) // 8, 0

    def compile(self, work: Work) -> None:
        """Converts the ONNX file; OpenVINO compiles for the processor when the model is loaded.

        Little is folded here: weights go from file to file, and would be in memory, as wide as they are cast to. Those
        that pictures are enlarged by are, since they are summed.
        """
        with _one_line(f"{work.component.name} cannot be read"):
            model = ov.Core().read_model(work.onnx)
            upsampling.split(model, exact=self.computes(work.precision) == "fp32")
        for port, tensor in zip(model.inputs, work.component.inputs, strict=True):
            port.tensor.set_names({tensor.name})
        for port, tensor in zip(model.outputs, work.component.outputs, strict=True):
            port.tensor.set_names({tensor.name})
        with _one_line(f"{work.folder / FILE} cannot be written (is the disk full?)"):
            ov.save_model(model, work.folder / FILE, compress_to_fp16=False)
            _keep_narrow(work.folder / FILE)

    def runs_here(self) -> bool:
        return True

    def open(self, work: Work) -> Run:
        properties = {"INFERENCE_PRECISION_HINT": HINTS[self.computes(work.precision)]}
        with _one_line(f"{work.component.name} cannot be compiled"):
            compiled = ov.compile_model(work.folder / FILE, "CPU", properties)

        def run(inputs: Arrays) -> Arrays:
            with _one_line(f"{work.component.name} cannot be run"):
                made = compiled(dict(inputs))
                return {tensor.name: made[tensor.name] for tensor in work.component.outputs}

        return run

    def serving(self, _component: Component, precision: str) -> Serving:
        hint = HINTS[self.computes(precision)]
        return Serving("openvino", "KIND_CPU", {"INFERENCE_PRECISION": hint}, warms_up=True, ours=True)


def _keep_narrow(file: Path) -> None:
    """Marks where narrow weights are cast: OpenVINO then packs them as they are, and keeps no wide copy of them."""
    tree = ElementTree.parse(file)  # noqa: S314 - it was written here
    layers = {layer.get("id"): layer for layer in tree.iter("layer")}
    for edge in tree.iter("edge"):
        weight, cast = layers[edge.get("from-layer")], layers[edge.get("to-layer")]
        if (weight.get("type"), cast.get("type")) == ("Const", "Convert"):
            data = weight.find("data")
            if data is not None and data.get("element_type") in NARROW:
                mark = ElementTree.Element("rt_info")
                ElementTree.SubElement(mark, "attribute", name="decompression", version="0")
                cast.insert(1, mark)
    tree.write(file, "utf-8", xml_declaration=True)


@contextmanager
def _one_line(failure: str) -> Iterator[None]:
    """OpenVINO's RuntimeError as ExportError: its last line is the reason, those before it say where in its source."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ExportError(f"{failure}; OpenVINO says: {lines[-1] if lines else type(error).__name__}") from error
