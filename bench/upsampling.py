"""What a picture costs that is made twice as large and convolved: as it is written, and by four quarters.

    python -m bench upsampling [--calls N] [--clock CLOCK] [--threads N] [--isa AVX2]

The layers are those of Stable Diffusion 1.5 at 256 x 256, the denoiser's and the decoder's, each alone, with random
weights, in fp32, in bf16 where that is native, and the denoiser's in int8. `--isa` holds oneDNN to older instructions.
"""

import os
import statistics
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from backends.silent import openvino as ov
from bench import report
from bench.adapters import CLOCKS, interleaved
from bench.precisions import ISAS
from export.component.schemes import INT7, INT8
from export.engines import load, upsampling
from export.engines.openvino import HINTS

DENOISER, DECODER = "denoiser", "decoder"
LAYERS = (
    (DENOISER, 1280, 4),
    (DENOISER, 1280, 8),
    (DENOISER, 640, 16),
    (DECODER, 512, 32),
    (DECODER, 512, 64),
    (DECODER, 256, 128),
)
"""Where, channels, and pixels a side before."""
INPUT = "picture"
RANGE = 4.0
"""Of inputs that are narrowed, on both sides of 0."""


def layer(channels: int, most: int) -> Any:
    """A model of one layer. `most`: the largest number of its int8 weights; 0: in floats."""
    op, random = ov.opset15, np.random.default_rng(0)
    weight = (random.standard_normal((channels, channels, 3, 3)) / (3 * channels**0.5)).astype(np.float32)
    given = op.parameter([-1, channels, -1, -1], np.float32)
    given.output(0).set_names({INPUT})
    scales = op.constant(np.array([1, 1, 2, 2], np.float32))
    larger: Any = op.interpolate(
        given, scales, "nearest", "scales", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    taken = op.constant(weight)
    if most:
        low, high = op.constant(np.float32(-RANGE)), op.constant(np.float32(RANGE))
        larger = op.fake_quantize(larger, low, high, low, high, 256)
        scale = np.abs(weight).max((1, 2, 3), keepdims=True) / most
        numbers = op.convert(op.constant(np.round(weight / scale).astype(np.int8)), "f32")
        taken = op.multiply(numbers, op.constant(scale))
    made = op.convolution(larger, taken, [1, 1], [1, 1], [1, 1], [1, 1])
    bias = op.constant(random.standard_normal((1, channels, 1, 1)).astype(np.float32))
    return ov.Model([op.add(made, bias)], [given])


def requests(channels: int, most: int, properties: dict[str, str], *, exact: bool) -> Iterator[Any]:
    """Two of a layer: as it is written, and by quarters."""
    for quarters in (False, True):
        model = layer(channels, most)
        if quarters and not upsampling.split(model, exact=exact):
            raise RuntimeError("the layer was left as it is")
        yield ov.Core().compile_model(model, "CPU", properties).create_infer_request()


def main() -> int:
    """Prints one line a layer and precision."""
    parser = report.parser(__doc__)
    parser.add_argument("--calls", type=int, default=9, help="of each")
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="what seconds are counted")
    parser.add_argument("--threads", type=int, help="OpenVINO's own number unless given")
    parser.add_argument("--isa", choices=ISAS, help="the processor's own unless given")
    options = parser.parse_args()
    if options.isa:
        os.environ["ONEDNN_MAX_CPU_ISA"] = options.isa
    floats = ("fp32",) if options.isa else load("openvino").native()
    most = INT8 if "VNNI" in (options.isa or "VNNI") else INT7
    properties = {"INFERENCE_NUM_THREADS": str(options.threads)} if options.threads else {}
    print(f"{report.processor()}; load {os.getloadavg()[0]:.1f}")
    for name, precision, narrow in [*((one, one, 0) for one in floats), ("int8", floats[-1], most)]:
        for where, channels, side in LAYERS:
            if narrow and where == DECODER:
                continue
            hints = properties | {"INFERENCE_PRECISION_HINT": HINTS[precision]}
            picture = np.random.default_rng(1).standard_normal((1, channels, side, side), np.float32)
            made = requests(channels, narrow, hints, exact=precision == "fp32")
            calls = [(request.infer, {INPUT: picture}) for request in made]
            whole, quarters = interleaved(calls, options.calls, CLOCKS[options.clock])
            ratios = [one / other for one, other in zip(whole, quarters, strict=True)]
            seconds = " and ".join(f"{statistics.median(taken) * 1e3:.1f}" for taken in (whole, quarters))
            sides = f"{side} x {side} to {2 * side} x {2 * side}"
            print(f"{name} {where} {channels} channels, {sides}: {seconds} ms, {report.spread(ratios)} times as fast")
    return 0


if __name__ == "__main__":
    sys.exit(main())
