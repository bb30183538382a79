"""What fewer bits gain in a call of the denoiser: engines of an export each, called in turn in this process.

    python -m bench precisions [--checkpoint demo|full] [--side N] [--rows N] [--calls N] [--clock CLOCK] [--threads N]
                               [--isa AVX2] [PRECISION ...]

The first precision is what the others are told as multiples of, call by call, before what their products ran in, as
OpenVINO says it. `--clock processor --threads 1` is for a machine that does other work meanwhile. `--isa` holds oneDNN,
which computes products, to older instructions, and all that is not narrowed to fp32; what OpenVINO itself generates, as
norms and attention, is as wide as the processor, so that ratios of a processor without the rest differ somewhat.
"""

import os
import statistics
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

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

PRODUCTS = ("Convolution", "FullyConnected", "FullyConnectedQuantizedLegacy")
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
    options = parser.parse_args()
    setup, engine = SETUPS[options.checkpoint], load("openvino")
    folders = {precision: setup.repository(precision) / DENOISER / "1" for precision in options.precisions}
    if options.isa:
        os.environ["ONEDNN_MAX_CPU_ISA"] = options.isa
    compiled = {}
    for precision, folder in folders.items():
        hint = HINTS["fp32" if options.isa else engine.computes(precision if precision in HINTS else "int8")]
        properties = {"INFERENCE_PRECISION_HINT": hint}
        properties |= {"INFERENCE_NUM_THREADS": str(options.threads)} if options.threads else {}
        compiled[precision] = ov.Core().compile_model(folder / "model.xml", "CPU", properties)
    compare(compiled, _inputs(setup, options.rows, options.side), options.calls, options.clock)
    for precision, model in compiled.items():
        print(f"{precision}: {kinds(model)}")
    return 0


def compare(compiled: Mapping[str, Any], inputs: Arrays, calls: int, clock: str) -> None:
    """Calls the models in turn, and prints what each took beside the first."""
    requests = [model.create_infer_request().infer for model in compiled.values()]
    seconds = interleaved([(infer, inputs) for infer in requests], calls, CLOCKS[clock])
    print(f"{report.processor()}; load {os.getloadavg()[0]:.1f}")
    for name, taken in zip(compiled, seconds, strict=True):
        ratios = [first / own for first, own in zip(seconds[0], taken, strict=True)]
        print(f"{name}: {statistics.median(taken) * 1e3:.1f} ms, {report.spread(ratios)} times the first's speed")


def _inputs(setup: Setup, rows: int, side: int) -> Arrays:
    checkpoint = find(str(setup.checkpoint()), None)
    table, modules = load_family(checkpoint.family, "table"), load_family(checkpoint.family, "modules")
    component = next(one for one in table.components(checkpoint.path, Limits(setup.pixels, 3)) if one.name == DENOISER)
    tensors = inputs_of(component, modules, rows, side)
    return {tensor.name: np.asarray(t) for tensor, t in zip(component.inputs, tensors, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
