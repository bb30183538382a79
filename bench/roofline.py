"""How near the engines come to what this processor can do, which bounds what could still be gained.

    python -m bench roofline [--checkpoint demo|full] [--side N] [--calls N] [--results DIR]

The roofline is the most arithmetic a second that OpenVINO reaches here in plain chains of 3 x 3 convolutions, of widths
and sizes that Stable Diffusion has, in the engines' own type. An engine's arithmetic is counted by torch in the module
that it was made from; what is not a product of matrices counts nothing, but takes its time, and what enlarges pictures
counts in full, of which the engine does less than half. The engines are those of the export, run in this process, each
alone.
"""

import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from openvino import opset13 as op
from rich.progress import track
from torch.utils.flop_counter import FlopCounterMode

from backends.silent import openvino as ov
from bench import report
from bench.adapters import PIXELS_A_LATENT, interleaved
from bench.setups import SETUPS, Setup
from export.checkpoint import find
from export.engines.openvino import HINTS
from families import load
from families.interface import DENOISER, ROWS, Component, Limits, Modules, Table

CHAINS = ((320, 32), (640, 16), (512, 128))
"""Channels, and pixels a side."""
CHAIN = 4
"""Convolutions in a row."""
ROWS_OF_A_CALL = {"text_encoder": (1, 2), "vae_encoder": (1,), DENOISER: (1, 3), "vae_decoder": (1,)}
EDITS = {"10 steps of 1 row": (10, 1, 1), "4 steps of 3 rows": (4, 3, 2)}
"""Steps, rows of a step and sentences of an edit."""


@dataclass(frozen=True)
class Call:
    """One call of an engine. `kinds`: the share of its time by kind of operation, the largest first."""

    component: str
    rows: int
    gflop: float
    seconds: float
    kinds: Mapping[str, float]

    @property
    def rate(self) -> float:
        """GFLOP a second."""
        return self.gflop / self.seconds


def compiled(model: Any, precision: str, *, profiled: bool = False) -> Any:
    """A request of the model, compiled as the embedded Triton's backend does."""
    properties = {"INFERENCE_PRECISION_HINT": precision, "PERF_COUNT": profiled}
    return ov.Core().compile_model(model, "CPU", properties).create_infer_request()


def median_seconds(request: Any, inputs: Mapping[Any, NDArray[Any]], calls: int) -> float:
    """Of one call, after some to warm up."""
    return statistics.median(interleaved([(request.infer, inputs)], calls)[0])


def roofline(precision: str, calls: int) -> float:
    """GFLOP a second of the fastest chain."""
    rates, random = [], np.random.default_rng(0)
    for channels, side in CHAINS:
        weights = random.standard_normal((channels, channels, 3, 3), np.float32) / (3 * channels**0.5)
        given = op.parameter([1, channels, side, side], np.float32)
        node = given
        for _ in range(CHAIN):
            node = op.convolution(node, op.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])
        request = compiled(ov.Model([node], [given]), precision)
        picture = random.standard_normal((1, channels, side, side), np.float32)
        seconds = median_seconds(request, {0: picture}, calls)
        rates.append(CHAIN * 2 * 9 * channels**2 * side**2 / seconds / 1e9)
    return max(rates)


def arithmetic(module: torch.nn.Module, inputs: Iterable[torch.Tensor]) -> float:
    """GFLOP of one forward pass: two for each multiplication in products of matrices, and nothing else."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*(tensor.to("meta") for tensor in inputs))
    return float(counter.get_total_flops()) / 1e9


def shares(request: Any, inputs: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Of a call's time, by kind of operation."""
    request.infer(inputs)
    request.infer(inputs)
    taken: Counter[str] = Counter()
    for node in request.get_profiling_info():
        taken[node.node_type] += node.real_time.total_seconds()
    return {kind: seconds / taken.total() for kind, seconds in taken.most_common() if seconds}


def measured(setup: Setup, side: int, calls: int) -> tuple[str, list[Call]]:
    """The engines' type, and a call of each at each number of rows."""
    checkpoint, repository = find(str(setup.checkpoint()), None), setup.repository()
    table, modules = (
        cast("Table", load(checkpoint.family, "table")),
        cast("Modules", load(checkpoint.family, "modules")),
    )
    components = table.components(checkpoint.path, Limits(setup.pixels, max(ROWS_OF_A_CALL[DENOISER])))
    record = json.loads((repository / DENOISER / "component.json").read_text("utf-8"))
    precision = HINTS[record["precision"]]
    found = []
    for component in track(components, "engines"):
        name = component.name
        file = repository / name / "1" / "model.xml"
        plain, profiled = compiled(file, precision), compiled(file, precision, profiled=True)
        module = modules.module(name, checkpoint.path).to("meta")
        for rows in ROWS_OF_A_CALL[name]:
            tensors = inputs_of(component, modules, rows, side)
            arrays = {tensor.name: t.numpy() for tensor, t in zip(component.inputs, tensors, strict=True)}
            seconds = median_seconds(plain, arrays, calls)
            found.append(Call(name, rows, arithmetic(module, tensors), seconds, shares(profiled, arrays)))
    return precision, found


def inputs_of(component: Component, modules: Modules, rows: int, side: int) -> list[torch.Tensor]:
    """Inputs for a square picture."""
    sizes = {axis: side // PIXELS_A_LATENT if axis.startswith("latent") else side for axis in component.ranges} | {
        ROWS: rows
    }
    generator = torch.Generator().manual_seed(0)
    return [modules.sample(tensor, tensor.shape(sizes), generator) for tensor in component.inputs]


def edit_seconds(found: Iterable[Call], steps: int, rows: int, sentences: int) -> tuple[float, float]:
    """Seconds of an edit's calls one after the other, and its GFLOP."""
    times = {("text_encoder", sentences): 1, ("vae_encoder", 1): 1, (DENOISER, rows): steps, ("vae_decoder", 1): 1}
    counted = [(times[call.component, call.rows], call) for call in found if (call.component, call.rows) in times]
    return sum(n * call.seconds for n, call in counted), sum(n * call.gflop for n, call in counted)


def main() -> int:
    """Measures, prints and writes."""
    parser = report.parser(__doc__)
    parser.add_argument("--checkpoint", choices=tuple(SETUPS), default="full")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--calls", type=int, default=5, help="calls of each engine; the median counts")
    options = parser.parse_args()
    print("a minute or two at full size, once the repository is exported")
    try:
        precision, found = measured(SETUPS[options.checkpoint], options.side, options.calls)
        highest = roofline(precision, options.calls)
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    print(f"\n{options.checkpoint}, {options.side} x {options.side}; roofline in {precision}: {highest:.0f} GFLOP/s")
    for call in found:
        kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in list(call.kinds.items())[:4])
        print(
            f"  {call.component:<14}{call.rows} rows {call.gflop:8.1f} GFLOP {call.seconds * 1e3:8.1f} ms "
            f"{call.rate:6.0f} GFLOP/s, {call.rate / highest:.0%} of the roofline; {kinds}"
        )
    bounds = {}
    for name, sizes in EDITS.items():
        seconds, gflop = edit_seconds(found, *sizes)
        bounds[name] = {"seconds": seconds, "gflop": gflop, "at_the_roofline": gflop / highest}
        print(f"  an edit of {name}: engines {seconds:.2f} s; {gflop / highest:.2f} s if all of it ran at the roofline")
    metrics = {"setup": options.checkpoint, "side": options.side, "precision": precision, "roofline_gflops": highest}
    metrics |= {"calls": [asdict(call) for call in found], "edits": bounds}
    report.save(options.results, f"roofline-{options.checkpoint}", metrics)
    return 0


if __name__ == "__main__":
    sys.exit(main())
