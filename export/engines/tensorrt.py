"""TensorRT plans (`model.plan`): by TensorRT for this machine's GPU, by TensorRT for RTX for any, with or without one.

One builder for both, for their Python APIs are the same. Networks are strongly typed: a plan computes in the types of
its ONNX file. Only TensorRT for RTX knows target compute capabilities and options at run time.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from backends.compatibility import MODULES, PRODUCTS
from backends.gpu import find_gpu
from backends.plan import Options, Plan
from export.component.schemes import SCHEMES, Scheme
from export.engines import Arrays, Run, Serving, Work
from export.engines.trt_watch import BuildLog, interruptible, monitor
from export.errors import BadInputError, ExportError
from families.interface import Component

FILE = "model.plan"
WORKSPACE_BYTES = 16 << 30
"""Scratch memory that one layer's kernel may take: a bound for the builder's search, not an allocation.

A profile is a box: its largest height and width come together, though no picture has both, and the plan asks for the
memory of that corner when it is loaded. `python -m bench.tensorrt` prints how much.
"""
COPIES = 3
"""Of the weights, in main memory while a plan is built: assumed. `python -m bench tensorrt` prints what one took."""
LEAST_CAPABILITY = {"nvfp4": "10.0", "fp8": "8.9", "bf16": "8.0"}
"""Of the GPUs that compute in a type; those of all other types are any. TensorRT for RTX compiles for no other."""
DTYPES = {"FP32": "FLOAT", "INT32": "INT32", "INT64": "INT64", "BOOL": "BOOL"}


class TensorRt:
    """`targets`: compute capabilities such as "8.9"; none: this machine's GPU, or without one all that RTX knows."""

    precisions: tuple[str, ...] = ("fp16", "bf16", "fp32", "fp8", "nvfp4", "w8", "w4")
    traces_narrow = True

    def __init__(self, kind: str, targets: Sequence[str] = ()) -> None:
        """Raises BadInputError: not installed, no GPU where one is needed, a target that cannot be compiled for."""
        self.name = kind
        self._trt = _module(kind)
        self._gpu = find_gpu()
        self.targets = self._choose(targets)

    def _choose(self, targets: Sequence[str]) -> tuple[str, ...]:
        own = (self._gpu.compute_capability,) if self._gpu else ()
        if self.name == "tensorrt":
            if not own:
                raise BadInputError("--engine tensorrt compiles on the GPU it is for, and this machine shows none")
            if targets and tuple(targets) != own:
                raise BadInputError(f"--engine tensorrt compiles for this machine's GPU alone, {self._gpu}")
            return own
        known = tuple(_dotted(name) for name in self._trt.ComputeCapability.__members__ if name.startswith("SM"))
        served = not own or _served(own[0], known)
        for target in targets:
            if target not in (*known, *own) or (target in own and not served):
                raise BadInputError(f"--compute-capability {target} is not one of {', '.join(known)}")
        if not targets and not served:
            instead = f"export with --engine tensorrt, or for other GPUs with --compute-capability {', '.join(known)}"
            raise BadInputError(f"{PRODUCTS[self.name]} {self._trt.__version__} does not run on {self._gpu}: {instead}")
        return tuple(targets) or own or known

    def native(self) -> tuple[str, ...]:
        """All floats of 16 bits or more, wherever these engines run."""
        return ("fp16", "bf16", "fp32")

    def refuses(self, precision: str) -> str:
        """Every GPU that it is compiled for must have the type that is computed in."""
        kind = precision if precision in LEAST_CAPABILITY else self.computes(precision)
        least = LEAST_CAPABILITY.get(kind, "")
        if not least or all(float(target) >= float(least) for target in self.targets):
            return ""
        others = [f"{name} from {since}" for name, since in LEAST_CAPABILITY.items() if float(since) < float(least)]
        instead = ", or other GPUs with --compute-capability" if self.name == "tensorrt_rtx" else ""
        return (
            f"wants compute capability {least} or later, and the engine is for {', '.join(self.targets)}: "
            f"name another ({', '.join(others)}{', ' if others else ''}fp16 or fp32 for any){instead}"
        )

    def versions(self) -> Mapping[str, str]:
        """TensorRT's version, the compute capabilities compiled for, and the GPU where the plan depends on it."""
        gpu = {"gpu": self._gpu.name} if self._gpu and self.name == "tensorrt" else {}
        return {self.name: str(self._trt.__version__), "compute_capability": " ".join(self.targets), **gpu}

    def computes(self, precision: str) -> str:
        """What nothing narrows computes in bf16: all GPUs that know FP8 have it, and no model is out of its range."""
        return "bf16" if precision in SCHEMES else precision

    def scheme(self, precision: str) -> Scheme | None:
        return SCHEMES.get(precision)

    def keeps(self, precision: str, lying: str | None) -> str:  # noqa: ARG002 - a plan computes in one type
        """As it is computed with."""
        return precision

    def takes(self, precision: str, numbers: int) -> tuple[int, int]:
        """The weights as they are parsed and again in the plan, and on a GPU where there is one."""
        size = numbers * (4 if precision == "fp32" else 2)
        return COPIES * size, 2 * size if self._gpu else 0

    def compile(self, work: Work) -> None:
        """Raises ExportError in one line where TensorRT refuses the graph."""
        log, component = BuildLog.of(self._trt), work.component
        builder = self._trt.Builder(log.logger)
        typed = 1 << int(self._trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(typed)
        parser = self._trt.OnnxParser(network, log.logger)
        if not parser.parse_from_file(str(work.onnx)):
            why = str(parser.get_error(0)) if parser.num_errors else log.last()
            raise ExportError(f"{PRODUCTS[self.name]} cannot read {component.name}: {' '.join(why.split())}")
        self._require_table(network, component)
        config = builder.create_builder_config()
        config.set_memory_pool_limit(self._trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        config.add_optimization_profile(profile(builder.create_optimization_profile(), component))
        self._set_targets(config)
        timings = self._timings(config, work.caches)
        config.progress_monitor = watch = monitor(self._trt, work.advance)
        with interruptible(watch):
            plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise ExportError(f"{PRODUCTS[self.name]} cannot compile {component.name}: {log.last()}")
        (work.folder / FILE).write_bytes(plan)
        if timings:
            _replace(timings, bytes(config.get_timing_cache().serialize()))

    def _timings(self, config: Any, caches: Path) -> Path | None:
        """The file of kernel timings, read into `config`; TensorRT for RTX, which times on the user's GPU, has none."""
        if self.name != "tensorrt":
            return None
        file = caches / f"{self.name}-{self._trt.__version__}-{'-'.join(self.targets)}.timings"
        known = file.read_bytes() if file.exists() else b""
        cache = config.create_timing_cache(known) or config.create_timing_cache(b"")  # None where it cannot be read
        config.set_timing_cache(cache, ignore_mismatch=True)
        return file

    def _require_table(self, network: Any, component: Component) -> None:
        """The parsed network's tensors are those of the table. Raises ExportError."""
        parsed = [network.get_input(i) for i in range(network.num_inputs)]
        parsed += [network.get_output(i) for i in range(network.num_outputs)]
        stated = (*component.inputs, *component.outputs)
        found = [(tensor.name, tensor.dtype.name) for tensor in parsed]
        if found != [(tensor.name, DTYPES[tensor.dtype]) for tensor in stated]:
            raise ExportError(f"the ONNX file of {component.name} has other tensors than the table: {found}")

    def _set_targets(self, config: Any) -> None:
        if self.name != "tensorrt_rtx":
            return
        members = self._trt.ComputeCapability.__members__
        config.num_compute_capabilities = len(self.targets)
        for place, target in enumerate(self.targets):
            # A GPU that has no name of its own in this version can still be compiled for where it is.
            capability = members.get(f"SM{target.replace('.', '')}", members["CURRENT"])
            if not config.set_compute_capability(capability, place):
                raise ExportError(f"{PRODUCTS[self.name]} does not compile for compute capability {target}")

    def runs_here(self) -> bool:
        return self._gpu is not None and self._gpu.compute_capability in self.targets

    def open(self, work: Work) -> Run:
        try:
            plan = Plan(self._trt, work.folder / FILE, Options())
        except (ValueError, RuntimeError) as error:
            raise ExportError(f"the compiled {work.component.name} does not load: {error}") from error

        def run(inputs: Arrays) -> Arrays:
            return {name: array.copy() for name, array in plan.infer(inputs).items()}

        return run

    def serving(self, component: Component, _precision: str) -> Serving:
        """Triton's own TensorRT backend serves what stands in an ensemble, and hands tensors on within the GPU."""
        if self.name == "tensorrt" and component.role != "denoiser" and not component.whole:
            return Serving("tensorrt", "KIND_GPU", warm_up=True, cuda_graphs=True)
        backend = "tensorrt_in_place" if self.name == "tensorrt" else self.name
        return Serving(backend, "KIND_GPU", {"CUDA_GRAPHS": "YES"}, warm_up=True, ours=True)


def profile(empty: Any, component: Component) -> Any:
    """The optimisation profile that the table's ranges are: smallest, usual and largest shape of each input."""
    ends = [component.sizes(end) for end in ("min", "opt", "max")]
    for tensor in component.inputs:
        empty.set_shape(tensor.name, *(tensor.shape(sizes) for sizes in ends))
    return empty


def _module(kind: str) -> ModuleType:
    try:
        return importlib.import_module(MODULES[kind])
    except ImportError as error:
        hint = "it comes with the export image" if kind == "tensorrt" else "pip install tensorrt-rtx-cu13 cuda-bindings"
        raise BadInputError(f"--engine {kind}: {PRODUCTS[kind]} is not installed ({hint})") from error


def _dotted(name: str) -> str:
    """SM89 -> 8.9, SM120 -> 12.0."""
    digits = name.removeprefix("SM")
    return f"{digits[:-1]}.{digits[-1]}"


def _served(capability: str, known: tuple[str, ...]) -> bool:
    """Whether TensorRT for RTX runs there: it knows GPUs by name, and runs on newer ones than it knows."""
    own, named = (tuple(int(part) for part in name.split(".")) for name in (capability, max(known, key=float)))
    return capability in known or own > named


def _replace(file: Path, content: bytes) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)
