"""A repository as `export` writes it for a GPU, in which torch computes what engines would: where no TensorRT runs.

Everything in it is the export's but the engines: their `config.pbtxt` is what the kind of engine has, but for the
backend, which is Triton's Python one, and their plans are `bench.torch_plan`'s. Of the kinds

- `tensorrt_rtx` is served by our own backend, by way of `backends.plan`;
- `tensorrt` too as far as its denoiser goes, with the CUDA graphs that `backends.launches` captures; all else takes and
  gives tensors where Triton's own TensorRT backend does: its answers lie on the GPU, and reach the models that wait for
  them by Triton's ways between processes.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from backends.gpu import find_gpu
from bench.counted_driver import Copied
from bench.setups import ROOT
from bench.torch_plan import Program
from export.checkpoint import find
from export.component import config
from export.component.build import RECORD
from export.engines import Serving
from export.engines.tensorrt import FILE, TensorRt
from export.precisions import Precisions
from export.report import Report
from export.run import Options, export
from export.store import Store
from families import load as load_family
from families.interface import DENOISER, Component, Limits, Table

COUNTS = "copied"
OURS = """
import json
import sys
from pathlib import Path

sys.path.append({root!r})
from bench import torch_plan

torch_plan.install({device!r}, Path({counts!r}))
from backends.{backend}.model import TritonPythonModel as Served


class TritonPythonModel(Served):
    def initialize(self, args):
        config = json.loads(args["model_config"])
        config["default_model_filename"] = ""  # it is this file's here
        super().initialize({{**args, "model_config": json.dumps(config)}})
"""
"""What serves an engine of a backend of ours."""
TRITONS = """
import sys
from pathlib import Path

sys.path.append({root!r})
import torch
import triton_python_backend_utils as pb_utils

from bench.torch_plan import Program


class TritonPythonModel:
    def initialize(self, args):
        plan = Path(args["model_repository"], args["model_version"], "model.plan")
        self.module, self.component = Program.open(plan.read_bytes(), {device!r})

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        given = {{tensor.name(): torch.from_dlpack(tensor.to_dlpack()).to({device!r}) for tensor in request.inputs()}}
        with torch.no_grad():
            made = self.module(*(given[tensor.name] for tensor in self.component.inputs))
        made = made if isinstance(made, (tuple, list)) else (made,)
        if {device!r} == "cuda":
            torch.cuda.synchronize()
        tensors = [
            pb_utils.Tensor.from_dlpack(tensor.name, torch.utils.dlpack.to_dlpack(result.float().contiguous()))
            for tensor, result in zip(self.component.outputs, made, strict=True)
            if tensor.name in request.requested_output_names()
        ]
        return pb_utils.InferenceResponse(tensors)
"""
"""What serves an engine of Triton's own TensorRT backend."""
WHERE_THEY_ARE = 'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value: { string_value: "no" } }\n'
"""Of those: their inputs are not brought to main memory."""


class ByTorch(TensorRt):
    """The kind of engine, as far as the export asks it for what needs no TensorRT."""

    def __init__(self, kind: str, device: str) -> None:
        self.name, self.targets, self._device = kind, (), device
        self._gpu = find_gpu()

    def versions(self) -> Mapping[str, str]:
        """It is none of TensorRT's."""
        return {self.name: "by torch"}

    def serving(self, component: Component, precision: str) -> Serving:
        """As TensorRt says; without CUDA graphs where there is no GPU."""
        made = super().serving(component, precision)
        ungraphed = self._device == "cpu" and made.backend == "tensorrt_in_place"
        return replace(made, parameters={"CUDA_GRAPHS": "NO"}) if ungraphed else made


@dataclass
class TorchStore(Store):
    """A repository's store that has every engine that it is asked for: torch's."""

    target: Path
    family: str
    checkpoint: Path
    engine_kind: ByTorch
    components: Mapping[str, Component]
    precisions: Mapping[str, str]
    device: str
    limits: Limits

    def __post_init__(self) -> None:
        """In the folder `target`."""
        super().__init__(self.target)

    def engine(self, component: str, fingerprint: str) -> Path | None:
        """As Store says; it is made where it is not there."""
        made = super().engine(component, fingerprint)
        if made is None:
            with self.building(component, fingerprint) as folder:
                self._write(self.components[component], folder)
            made = super().engine(component, fingerprint)
        return made

    def _write(self, component: Component, folder: Path) -> None:
        precision = self.precisions[component.name]
        serving = self.engine_kind.serving(component, precision)
        (folder / "1").mkdir()
        own = str(self.checkpoint.resolve())
        limits = self.limits
        bounds = limits.max_pixels, limits.max_batch, limits.max_images
        program = Program(self.family, component.name, own, *bounds, precision)
        (folder / "1" / FILE).write_bytes(program.write())
        counts = str(counts_of(self.target, component.name))
        said = {"root": str(ROOT), "device": self.device, "counts": counts, "backend": serving.backend}
        (folder / "1" / "model.py").write_text((OURS if serving.ours else TRITONS).format(**said))
        written = config.write(component, serving)
        written = re.sub(r'backend: "\w+"', 'backend: "python"', written)
        if self.device == "cpu":
            written = written.replace("KIND_GPU", "KIND_CPU")
        (folder / "config.pbtxt").write_text(written + ("" if serving.ours else WHERE_THEY_ARE))
        record = {"precision": precision, "bytes": 0, "error": 0.0, "tolerance": 0.0, "compared": {}, "checked_in": ""}
        (folder / RECORD).write_text(json.dumps(record))


def counts_of(repository: Path, component: str) -> Path:
    """The file in which a model's process counts its copies, as `Copied.read` takes it."""
    return repository.resolve() / "edit" / f"{COUNTS}-{component}"


def copied(repository: Path) -> Copied:
    """Between main memory and the GPU, by the denoiser's process."""
    return Copied.read(counts_of(repository, DENOISER))


def repository(checkpoint: Path, folder: Path, kind: str, device: str, options: Options) -> Path:
    """Writes it into `folder`, which it empties, and returns that. For a `device` of cpu Triton is told of no GPU."""
    found = find(str(checkpoint), None)
    table = cast("Table", load_family(found.family, "table"))
    components = table.components(checkpoint, options.limits)
    engine = ByTorch(kind, device)
    chosen = options.precisions.of(components, engine)
    store = TorchStore(
        folder,
        found.family,
        checkpoint,
        engine,
        {component.name: component for component in components},
        chosen,
        device,
        options.limits,
    )
    shutil.rmtree(folder, ignore_errors=True)
    export(found, engine, options, store, Report())
    for record in folder.glob(f"*/{RECORD}"):
        record.unlink()  # which Triton would be refused by: they are no engines of that kind
    return folder


def usual(limits: Limits, device: str) -> Options:
    """What is exported within these limits."""
    return Options(limits, Precisions("fp32" if device == "cpu" else "auto"))
