"""What fewer bits gain in a call of the denoiser: engines of an export each, called in turn in this process.

    python -m bench precisions [--checkpoint demo|full] [--side N] [--rows N] [--calls N] [--clock CLOCK] [--threads N]
                               [--isa AVX2] [--torch] [PRECISION ...]

The first precision is what the others are told as multiples of, call by call, before what their products ran in, as
OpenVINO says it. `--clock processor --threads 1` is for a machine that does other work meanwhile. `--isa` holds oneDNN,
which computes products, to older instructions, and all that is not narrowed to fp32; the export narrows what is faster
by it there. What OpenVINO itself generates, as norms and attention, is as wide as the processor, so that
ratios of a processor without the rest differ somewhat. `--torch` puts diffusers' own denoiser first, in fp32, and holds
torch and MKL alike.
"""

import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from backends.processor import HELD
from backends.silent import openvino as ov
from bench import report
from bench.adapters import CLOCKS, interleaved
from bench.roofline import inputs_of
from bench.setups import SETUPS, Setup
from export.checkpoint import find
from export.engines import Arrays, load
from export.engines.openvino import HINTS
from families import load as load_family
from families.interface import DENOISER, Limits
from families.parts import pretrained

PRODUCTS = ("Convolution", "FullyConnected", "FullyConnectedQuantizedLegacy")
TORCH = "diffusers fp32"
OF_TORCH = {"AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}}
"""What holds torch's own kernels and MKL's; oneDNN's are held by the same variable as OpenVINO's."""
ISAS = ("AVX2", "AVX512_CORE", "AVX512_CORE_VNNI")


def kinds(compiled: Any) -> str:
    """How many products of a compiled model ran in which kernel. It has been called: before, none is chosen."""
    about = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    found = Counter(one["primitiveType"].value for one in about if one["layerType"].value in PRODUCTS)
    return ", ".join(f"{count} {kind}" for kind, count in found.most_common())


def main() -> int:
    """Prints one line a precision."""
    parser = report.parser(__doc__)
    parser.add_argument("precisions", nargs="*", default=["auto", "int8"], metavar="PRECISION")
    parser.add_argument("--checkpoint", choices=tuple(SETUPS), default="demo")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--calls", type=int, default=15, help="of each engine")
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="what seconds are counted")
    parser.add_argument("--threads", type=int, help="OpenVINO's own number unless given")
    parser.add_argument("--isa", choices=ISAS, help="the processor's own unless given")
    parser.add_argument("--torch", action="store_true", help="diffusers' own denoiser, too")
    options = parser.parse_args()
    if options.isa:  # before the export, which narrows what is faster by it
        os.environ.update({HELD: options.isa, **OF_TORCH.get(options.isa, {})})
    setup, engine = SETUPS[options.checkpoint], load("openvino")
    folders = {
        precision: setup.repository(precision, isa=options.isa) / DENOISER / "1" for precision in options.precisions
    }
    if options.isa:  # after it, whose comparisons OpenVINO's mix of wide and narrow kernels would crash
        os.environ["ONEDNN_MAX_CPU_ISA"] = options.isa
    compiled = {}
    for precision, folder in folders.items():
        hint = HINTS["fp32" if options.isa else engine.computes(precision if precision in HINTS else "int8")]
        properties = {"INFERENCE_PRECISION_HINT": hint}
        properties |= {"INFERENCE_NUM_THREADS": str(options.threads)} if options.threads else {}
        compiled[precision] = ov.Core().compile_model(folder / "model.xml", "CPU", properties)
    runs: dict[str, Callable[[Arrays], object]] = {TORCH: _torch(setup, options.threads)} if options.torch else {}
    runs |= {precision: model.create_infer_request().infer for precision, model in compiled.items()}
    compare(runs, _inputs(setup, options.rows, options.side), options.calls, options.clock)
    for precision, model in compiled.items():
        print(f"{precision}: {kinds(model)}")
    return 0


def compare(runs: Mapping[str, Callable[[Arrays], object]], inputs: Arrays, calls: int, clock: str) -> None:
    """Calls them in turn, and prints what each took beside the first."""
    seconds = interleaved([(run, inputs) for run in runs.values()], calls, CLOCKS[clock])
    print(f"{report.processor()}; load {os.getloadavg()[0]:.1f}")
    for name, taken in zip(runs, seconds, strict=True):
        ratios = [first / own for first, own in zip(seconds[0], taken, strict=True)]
        print(f"{name}: {statistics.median(taken) * 1e3:.1f} ms, {report.spread(ratios)} times the first's speed")


def _torch(setup: Setup, threads: int | None) -> Callable[[Arrays], object]:
    """diffusers' denoiser in this process."""
    checkpoint = find(str(setup.checkpoint()), None)
    module = pretrained.fill(load_family(checkpoint.family, "modules").module(DENOISER, checkpoint.path), torch.float32)
    if threads:
        torch.set_num_threads(threads)

    def run(inputs: Arrays) -> object:
        with torch.inference_mode():
            return module(*map(torch.from_numpy, inputs.values()))

    return run


def _inputs(setup: Setup, rows: int, side: int) -> Arrays:
    checkpoint = find(str(setup.checkpoint()), None)
    table, modules = load_family(checkpoint.family, "table"), load_family(checkpoint.family, "modules")
    component = next(one for one in table.components(checkpoint.path, Limits(setup.pixels, 3)) if one.name == DENOISER)
    tensors = inputs_of(component, modules, rows, side)
    return {tensor.name: np.asarray(t) for tensor, t in zip(component.inputs, tensors, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
