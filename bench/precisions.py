"""What fewer bits gain in a call of the denoiser: engines of an export each, called in turn in this process.

    python -m bench precisions [--checkpoint demo|full] [--side N] [--rows N] [--calls N] [PRECISION ...]

The first precision is what the others are told as multiples of, call by call, and what their layers ran in, as OpenVINO
says it.
"""

import statistics
import sys
from collections import Counter
from typing import Any

import numpy as np

from backends.silent import openvino as ov
from bench import report
from bench.adapters import interleaved
from bench.roofline import inputs_of
from bench.setups import SETUPS
from export.checkpoint import find
from export.engines import load
from families import load as load_family
from families.interface import DENOISER, Limits

PRODUCTS = ("Convolution", "FullyConnected", "FullyConnectedQuantizedLegacy")


def kinds(compiled: Any) -> str:
    """How many products of a compiled model run in which kernel."""
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
    options = parser.parse_args()
    setup, engine = SETUPS[options.checkpoint], load("openvino")
    checkpoint = find(str(setup.checkpoint()), None)
    table, modules = load_family(checkpoint.family, "table"), load_family(checkpoint.family, "modules")
    component = next(one for one in table.components(checkpoint.path, Limits(setup.pixels, 3)) if one.name == DENOISER)
    tensors = inputs_of(component, modules, options.rows, options.side)
    arrays = {tensor.name: np.asarray(t) for tensor, t in zip(component.inputs, tensors, strict=True)}
    requests = {}
    for precision in options.precisions:
        folder = setup.repository(precision) / DENOISER / "1"
        hint = {"fp32": "f32"}.get(precision, "f32" if engine.native() == ("fp32",) else "bf16")
        compiled = ov.Core().compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": hint})
        requests[precision] = compiled.create_infer_request()
        print(f"{precision}: {kinds(compiled)}")
    seconds = interleaved([(request.infer, arrays) for request in requests.values()], options.calls)
    for precision, taken in zip(requests, seconds, strict=True):
        ratios = [first / own for first, own in zip(seconds[0], taken, strict=True)]
        print(f"{precision}: {statistics.median(taken) * 1e3:.1f} ms, {report.spread(ratios)} times the first's speed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
