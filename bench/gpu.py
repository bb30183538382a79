"""Everything to be measured on one GPU, in one call, offline, within 10 minutes: `bench/gpu.sh WHEELS` runs it.

Prints one line of JSON a result, each with the part it belongs to. Every part has a process and a time of its own, so
that one that fails, crashes or hangs says so, and the next one goes on:

- `engines`: does TensorRT for RTX run here, and how far is each fp16 engine from torch in fp32;
- `step`: one call of the denoiser's engine by rows, with and without CUDA graphs;
- `copies`: what it takes to bring bytes to the GPU and back, from memory that processes share;
- `torch`: the same call in torch, eager, and its floor: its operations over this GPU's measured matrix rate;
- `plan`: the same call by `backends.plan` with torch's kernels in the engine's place: what its copies cost, and graphs
  captured by torch, as TensorRT for RTX captures them by itself, and by `backends.launches`, as of TensorRT;
- `serve`: Triton and the gateway with those engines, or with torch in their place where there are none: pictures,
  edits in flight, streams, and where the time of a step goes (`bench.gpu_serve`);
- `compile`: the same call by torch.compile.

The model is an InstructPix2Pix of full size with random weights (bench.full_size). On a GPU that TensorRT for RTX does
not run on, such as an H100, `engines` and `step` say so; docs/bench.md tells what one measured.
"""

import argparse
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backends.cuda import Cuda
from backends.gpu import find_gpu
from backends.plan import Options, Plan
from bench import gpu_serve, gpu_serving
from bench.full_size import checkpoint
from bench.tensorrt import FAMILY, LIMITS
from bench.torch_plan import stand_in
from families import load as load_family
from families.interface import DENOISER, ROWS, Component
from families.parts.pretrained import fill

ROW_COUNTS = (1, 2, 3, 4, 6, 8, 12)
REPEATS = 20
WARM = 5
MATRIX = 8192
COPIED = (1 << 18, 1 << 21, 1 << 23, 1 << 25)
"""Bytes."""


PARTS = {
    "engines": 300.0,
    "step": 90.0,
    "copies": 30.0,
    "torch": 90.0,
    "plan": 90.0,
    "serve": 240.0,
    "compile": 240.0,
}
"""Most seconds of each."""


def emit(part: str, **metrics: Any) -> None:
    """One line of JSON."""
    print(json.dumps({"part": part, **metrics}), flush=True)


def engines(folder: Path, repository: Path) -> None:
    """Exports with TensorRT for RTX, which ends in the comparison with torch on this GPU."""
    began = time.monotonic()
    command = [sys.executable, "-m", "export", "--model", str(folder), "--engine", "tensorrt_rtx"]
    done = subprocess.run([*command, "--repository", str(repository)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-800:])
    for record in sorted(repository.glob("*/component.json")):
        made = json.loads(record.read_text())
        kept = {key: made[key] for key in ("error", "tolerance", "checked_in", "bytes", "versions")}
        emit("engines", component=record.parent.name, **kept)
    emit("engines", seconds=round(time.monotonic() - began, 1))


def seconds(call: Callable[[], object], synchronize: Callable[[], object]) -> float:
    """Mean seconds of a call, many of them in flight."""
    for _ in range(WARM):
        call()
    synchronize()
    began = time.perf_counter()
    for _ in range(REPEATS):
        call()
    synchronize()
    return (time.perf_counter() - began) / REPEATS


def copies() -> None:
    """Reports milliseconds of copies, of memory as it is, and page-locked."""
    cuda = Cuda(0)
    stream = cuda("cuStreamCreate", 0)

    def copied(name: str, *arguments: Any) -> float:
        """Milliseconds of one, and of waiting for it."""

        def call() -> None:
            cuda(name, *arguments, stream)
            cuda("cuStreamSynchronize", stream)

        return round(seconds(call, lambda: None) * 1e3, 3)

    for size in COPIED:
        file = os.memfd_create("copies")
        os.truncate(file, size)
        lying, buffer = np.frombuffer(mmap.mmap(file, size), np.uint8), cuda("cuMemAlloc", size)
        lying[:] = 1
        for how in ("as it is", "page-locked"):
            if how == "page-locked":
                cuda("cuMemHostRegister", lying.ctypes.data, size, 0)
            to = copied("cuMemcpyHtoDAsync", buffer, lying.ctypes.data, size)
            emit(
                "copies",
                how=how,
                mib=size / (1 << 20),
                to_ms=to,
                from_ms=copied("cuMemcpyDtoHAsync", lying.ctypes.data, buffer, size),
            )


def matrix_rate(dtype: torch.dtype = torch.float16) -> float:
    """Operations a second of a large product of matrices of a type."""
    a, b = (torch.randn(MATRIX, MATRIX, device="cuda").to(dtype) for _ in range(2))
    if dtype == torch.float8_e4m3fn:
        one = torch.ones((), device="cuda")
        taken = seconds(lambda: torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16), torch.cuda.synchronize)
    else:
        taken = seconds(lambda: a @ b, torch.cuda.synchronize)
    rate = 2 * MATRIX**3 / taken
    emit("torch", matrix_tflops=round(rate / 1e12, 1), dtype=str(dtype), gpu=str(find_gpu()))
    return rate


def inputs(component: Component, rows: int) -> list[torch.Tensor]:
    """One call's inputs at the usual size."""
    sizes = component.sizes("opt") | {ROWS: rows}
    modules, generator = load_family(FAMILY, "modules"), torch.Generator().manual_seed(7)
    return [modules.sample(tensor, tensor.shape(sizes), generator) for tensor in component.inputs]


def plan_times(component: Component, plan: Plan) -> Iterator[tuple[int, float, float]]:
    """Rows, seconds of the engine alone, seconds with copies in and out."""
    for rows in ROW_COUNTS:
        arrays = {t.name: a.numpy() for t, a in zip(component.inputs, inputs(component, rows), strict=True)}
        plan.infer(arrays)
        engine = seconds(
            lambda: plan._launches.run(plan._stream),
            lambda: plan._cuda("cuStreamSynchronize", plan._stream),
        )
        yield rows, engine, seconds(lambda: plan.infer(arrays), lambda: None)  # noqa: B023 - called here and now


def torch_times(module: Callable[..., object], component: Component) -> Iterator[tuple[int, float]]:
    """Rows and seconds of the module as it is."""
    for rows in ROW_COUNTS:
        tensors = [tensor.cuda() for tensor in inputs(component, rows)]
        yield rows, seconds(lambda: module(*tensors), torch.cuda.synchronize)  # noqa: B023 - called here and now


def operations(module: torch.nn.Module, component: Component) -> float:
    """Operations of one row."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    with FlopCounterMode(display=False) as counter:
        module(*(tensor.cuda() for tensor in inputs(component, 1)))
    return float(counter.get_total_flops())


def denoiser(folder: Path) -> Component:
    """The denoiser's part of the table."""
    components: tuple[Component, ...] = load_family(FAMILY, "table").components(folder, LIMITS)
    return next(component for component in components if component.name == DENOISER)


def step(folder: Path, repository: Path) -> None:
    """Reports the engine's times."""
    import tensorrt_rtx  # noqa: PLC0415

    file = repository / DENOISER / "1" / "model.plan"
    for graphs in (False, True):
        plan = Plan(tensorrt_rtx, file, Options(cuda_graphs=graphs, specialization="EAGER"))
        report_plan("step", denoiser(folder), plan, graphs=graphs)


def report_plan(part: str, component: Component, plan: Plan, *, graphs: bool) -> None:
    """Reports a plan's times by rows."""
    how = "CUDA graphs" if graphs else "no CUDA graphs"
    for rows, engine, whole in plan_times(component, plan):
        emit(part, how=how, rows=rows, ms=round(engine * 1e3, 2), with_copies_ms=round(whole * 1e3, 2))


def plan_by_torch(folder: Path) -> None:
    """Reports the same of torch's kernels in fp16, which end in what `backends.plan` holds and are called by it."""
    component = denoiser(folder)
    with torch.inference_mode():
        module = fill(load_family(FAMILY, "modules").module(DENOISER, folder), torch.float16).cuda()
    for kind, graphs in (("tensorrt_rtx", False), ("tensorrt_rtx", True), ("tensorrt", True)):
        plan = Plan(stand_in(module, component, kind=kind), Path(os.devnull), Options(cuda_graphs=graphs))
        report_plan(f"plan, {kind}", component, plan, graphs=graphs)


def in_torch(folder: Path, *, compiled: bool) -> None:
    """Reports torch's times of the same call in fp16; eager, also the rate and the floor."""
    component = denoiser(folder)
    with torch.inference_mode():
        module: Any = fill(load_family(FAMILY, "modules").module(DENOISER, folder), torch.float16).cuda()
        if compiled:
            module = torch.compile(module, dynamic=True)
        else:
            for dtype in (torch.bfloat16, torch.float8_e4m3fn):
                matrix_rate(dtype)
            floor = operations(module, component) / matrix_rate()
            for rows in ROW_COUNTS:
                emit("torch", how="floor", rows=rows, ms=round(rows * floor * 1e3, 2))
        for rows, taken in torch_times(module, component):
            emit("compile" if compiled else "torch", rows=rows, ms=round(taken * 1e3, 2))


def served(folder: Path, repository: Path) -> None:
    """Serves the engines of `repository`, or where there are none torch in their place, in every way. Raises
    RuntimeError where a check does not hold."""
    if (repository / DENOISER / "1" / "model.plan").exists():
        held = gpu_serve.engines(repository, folder)
    else:
        case = gpu_serving.CASES["full"]
        every = [gpu_serve.by_torch(case, folder, kind, folder.parent) for kind in gpu_serve.KINDS]
        held = all(every)
    if not held:
        raise RuntimeError("a check does not hold: its line says which")


def run_part(name: str, command: list[str], most: float) -> bool:
    """Runs a part in a process group of its own, at most so many seconds. Reports and returns whether it failed."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _, said = process.communicate(timeout=most)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        emit(name, failed=f"not done in {most:.0f} s")
        return True
    if process.returncode != 0:
        emit(name, failed=f"exit code {process.returncode}: {said[-800:]}")
    return process.returncode != 0


def main() -> int:
    """Runs every part. Returns 1 when one failed, 2 without a GPU."""
    parser = argparse.ArgumentParser("python -m bench.gpu", description="Measure the engines on this machine's GPU.")
    parser.add_argument("--work", type=Path, default=Path("build/bench-gpu"), help="where checkpoint and engines go")
    parser.add_argument("--seconds", type=float, default=570.0, help="how long all may take")
    parser.add_argument("--part", choices=tuple(PARTS), help="this one alone, in this process")
    options = parser.parse_args()
    folder, repository = options.work / "checkpoint", options.work / "repository"
    if options.part:
        parts: dict[str, Callable[[], None]] = {
            "engines": lambda: engines(folder, repository),
            "step": lambda: step(folder, repository),
            "copies": copies,
            "torch": lambda: in_torch(folder, compiled=False),
            "plan": lambda: plan_by_torch(folder),
            "serve": lambda: served(folder, repository),
            "compile": lambda: in_torch(folder, compiled=True),
        }
        parts[options.part]()
        return 0
    if find_gpu() is None:
        print("bench.gpu: this machine shows no NVIDIA GPU", file=sys.stderr)
        return 2
    deadline = time.monotonic() + options.seconds
    checkpoint(folder)
    command, failed = [sys.executable, "-m", "bench.gpu", "--work", str(options.work), "--part"], []
    for name, most in PARTS.items():
        failed.append(run_part(name, [*command, name], max(1.0, min(most, deadline - time.monotonic()))))
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
