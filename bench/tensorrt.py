"""What compiling a full-size model costs: `python -m bench.tensorrt [--work DIR]`. Needs no GPU.

Stable Diffusion 1.5's InstructPix2Pix architecture, from its public configuration, with random weights from a fixed
seed. Each component is traced and compiled in a process of its own by TensorRT for RTX in fp16; printed are seconds,
peak memory, size, and the GPU memory that the plan will ask for. Wants 16 GiB of memory and 8 GiB of disk.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bench.full_size import SEED, weights
from export.component import check, graph
from export.engines import Work, load, reference
from export.engines.trt_watch import BuildLog
from families import load as load_family
from families.interface import DENOISER, ROWS, Component, Limits

LIMITS = Limits(512 * 512, 12)
COMPONENTS = ("text_encoder", "vae_encoder", DENOISER, "vae_decoder")
FAMILY = "instruct_pix2pix"


@contextmanager
def timed(metrics: dict[str, Any], name: str) -> Iterator[None]:
    """Adds the block's seconds to `metrics`."""
    began = time.monotonic()
    yield
    metrics[name] = round(time.monotonic() - began, 1)


def measure(folder: Path, name: str, targets: list[str], precision: str) -> dict[str, Any]:
    """Traces, compiles, and compares with torch at the smallest shape, in this process."""
    import tensorrt_rtx  # noqa: PLC0415 - bench.gpu has its limits from here, and may run where it is missing

    modules, metrics = load_family(FAMILY, "modules"), dict[str, Any](component=name)
    component = next(c for c in load_family(FAMILY, "table").components(folder, LIMITS) if c.name == name)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        work = Work(Path(scratch, "model.onnx"), component, precision, Path(scratch), Path(scratch))
        with timed(metrics, "trace_s"):
            module, engine = modules.module(name, folder), load("tensorrt_rtx", targets)
            weights = graph.write(module, _inputs(modules, component, 1), work, engine)
        metrics["trace_peak_gib"] = _peak()
        with timed(metrics, "compile_s"):
            engine.compile(work)
        metrics["peak_gib"] = _peak()
        gpu = BuildLog.of(tensorrt_rtx).memory
        metrics |= {f"gpu_{name.lower()}_mb": round(size / 1e6) for name, size in gpu.items()}
        metrics["onnx_mb"] = round(sum(file.stat().st_size for file in Path(scratch).glob("model.onnx*")) / 1e6)
        metrics["plan_mb"] = round((Path(scratch) / "model.plan").stat().st_size / 1e6)
        run = reference.open_onnx(work.onnx, component)
        weights.widen(torch.float32)
        with weights.computing(torch.device("cpu")) as compute:
            error = check.against_torch(run, compute, component, _inputs(modules, component, 0))
        metrics["onnx_error"] = float(f"{error:.1e}")
    return metrics


def _inputs(modules: Any, component: Component, shape: int) -> list[torch.Tensor]:
    sizes, generator = dict(component.shapes[shape]), torch.Generator().manual_seed(SEED)
    sizes[ROWS] = min(2, sizes[ROWS])
    return [modules.sample(tensor, tensor.shape(sizes), generator) for tensor in component.inputs]


def _peak() -> float:
    """This process's largest resident memory so far, in GiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), 1)


def main() -> int:
    """Prints one line of JSON a component."""
    parser = argparse.ArgumentParser("python -m bench.tensorrt", description="Time and memory of a full-size export.")
    parser.add_argument("--work", type=Path, default=Path("build/bench-tensorrt"), help="where the checkpoint is kept")
    parser.add_argument("--component", choices=COMPONENTS, help="this one alone, in this process")
    parser.add_argument("--compute-capability", default="8.9", help="one or more, separated by commas")
    parser.add_argument("--precision", default="fp16", choices=("fp16", "bf16"))
    options = parser.parse_args()
    if options.component:
        warnings.simplefilter("ignore")
        targets = options.compute_capability.split(",")
        print(json.dumps(measure(options.work, options.component, targets, options.precision)), flush=True)
        return 0
    weights(options.work)
    for name in COMPONENTS:
        command = [sys.executable, "-m", "bench.tensorrt", *sys.argv[1:], "--component", name]
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            print(json.dumps({"component": name, "failed": done.stderr[-400:]}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
