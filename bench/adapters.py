"""What a bank of adapters costs: a denoiser's step with 1, 8 and 32 adapters of rank 16 beside the same without.

    python -m bench adapters [--model demo/checkpoint] [--counts 1,8,32] [--each 1] [--rank 16] [--rows 1,3]

The adapters are random, on all attention and feed-forward layers. Each engine is built as the export builds it, and the
engines are then run in turn, so that whatever else the machine does falls on all alike. `--each 1,2,4`: every row has
so many adapters.
"""

import argparse
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from export.checkpoint import find
from export.component import bank, graph
from export.engines import Engine, Work
from export.engines import load as load_engine
from families import load
from families.interface import ADAPTER, ADAPTER_SCALE, ADAPTERS, ROWS, Component, Limits, Modules, Table, Tensor
from families.parts.lora import Factors, Lora

LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
Inputs = Mapping[str, NDArray[Any]]
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
"""Processor time, of all threads, says more where the machine has other work to do, and nothing of a GPU."""


def main() -> None:
    """Builds, measures, prints."""
    options = _options()
    engine = load_engine(options.engine)
    native = next(precision for precision in Component.precisions if precision in engine.native())
    precision = native if options.precision == "auto" else options.precision
    counts = [0, *_numbers(options.counts)]
    print(f"{options.model}, {engine.name} {precision}, {options.side} x {options.side}, rank {options.rank}")
    with tempfile.TemporaryDirectory() as folder:
        denoisers = Denoisers(options.model, engine, precision, Path(folder))
        built = {count: denoisers.build(count, options.rank) for count in counts}
    for rows, each in itertools.product(_numbers(options.rows), _numbers(options.each)):
        # One shape for each engine in turn: to prepare for another costs one on a processor more than a bank does.
        calls = [(run, denoisers.inputs(rows, options.side, count, each)) for count, run in built.items()]
        steps = interleaved(calls, options.calls, CLOCKS[options.clock])
        for count, seconds in zip(counts, steps, strict=True):
            middle, none = statistics.median(seconds), statistics.median(steps[0])
            low, high = np.quantile(seconds, [0.25, 0.75]) * 1e3
            print(
                f"{rows} rows, {each if count else 0} each of {count:>2} adapters: {middle * 1e3:8.2f} ms a step "
                f"({low:.2f} to {high:.2f}), {middle / none - 1:+.1%}",
                flush=True,
            )


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo/checkpoint")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--counts", default="1,8,32", help="adapters in the bank, one engine for each")
    parser.add_argument("--each", default="1", help="adapters of a row")
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="what seconds are counted")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rows", default="1,3", help="rows of a call")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--calls", type=int, default=30, help="calls of each engine at each number of rows")
    return parser.parse_args()


PIXELS_A_LATENT = 8
"""Along one side, in the checkpoints that are measured here."""


class Denoisers:
    """Engines of one checkpoint's denoiser with banks of different sizes."""

    def __init__(self, model: str, engine: Engine, precision: str, folder: Path) -> None:
        self._checkpoint, self._engine, self._precision, self._folder = find(model, None), engine, precision, folder
        self._modules = cast("Modules", load(self._checkpoint.family, "modules"))
        table = cast("Table", load(self._checkpoint.family, "table"))
        components = table.components(self._checkpoint.path, Limits(512 * 512, 12))
        self._denoiser = next(component for component in components if component.role == "denoiser")

    def build(self, count: int, rank: int) -> Callable[[Inputs], object]:
        """One engine, ready to run; prints what it cost."""
        began = time.monotonic()
        module = self._modules.module(self._denoiser.name, self._checkpoint.path)
        plain = sum(parameter.numel() for parameter in module.parameters())
        if count:
            adapters = [(f"a{i}", random_lora(module, self._denoiser.name, rank, seed=i), 1.0) for i in range(count)]
            module = bank.build(module, self._denoiser.name, adapters)
        component = self._component(count)
        work = Work(self._folder / f"{count}.onnx", component, self._precision, self._folder / str(count), self._folder)
        work.folder.mkdir()
        shape = dict(component.shapes[1])
        inputs = [torch.from_numpy(array) for array in self._inputs(component, shape, count).values()]
        graph.write(module, inputs, work, self._engine)
        self._engine.compile(work)
        run = self._engine.open(work)
        size = sum(file.stat().st_size for file in work.folder.rglob("*") if file.is_file())
        weights = sum(parameter.numel() for parameter in module.parameters())
        each = f", {(weights - plain) / (count + 1) / 1e6:.2f} M weights an adapter" if count else ""
        print(f"{count:>2} adapters: built in {time.monotonic() - began:.0f} s, {size / 1e6:.1f} MB{each}", flush=True)
        return run

    def inputs(self, rows: int, side: int, count: int, each: int) -> Inputs:
        """One call's inputs, each row with `each` adapters, of its own where there are so many."""
        component = self._component(count)
        sizes = dict.fromkeys(component.ranges, side // PIXELS_A_LATENT) | {ROWS: rows, ADAPTERS: each}
        return self._inputs(component, sizes, count)

    def _component(self, count: int) -> Component:
        return bank.extend(self._denoiser) if count else self._denoiser

    def _inputs(self, component: Component, sizes: dict[str, int], count: int) -> Inputs:
        generator = torch.Generator().manual_seed(0)
        shapes = {tensor: tensor.shape(sizes) for tensor in component.inputs}
        return {tensor.name: self._input(tensor, shape, count, generator) for tensor, shape in shapes.items()}

    def _input(self, tensor: Tensor, shape: tuple[int, ...], count: int, generator: torch.Generator) -> NDArray[Any]:
        if tensor == ADAPTER:
            return np.arange(math.prod(shape), dtype=np.int32).reshape(shape) % count + 1
        if tensor == ADAPTER_SCALE:
            return np.ones(shape, np.float32)
        return self._modules.sample(tensor, shape, generator).numpy()


def random_lora(module: torch.nn.Module, component: str, rank: int, seed: int) -> Lora:
    """A LoRA on every attention and feed-forward layer of the module's network."""
    generator = torch.Generator().manual_seed(seed)
    layers = module.get_submodule("model").named_modules()
    linear = {name: m for name, m in layers if isinstance(m, torch.nn.Linear) and name.endswith(LAYERS)}
    return {
        component: {
            name: Factors(
                torch.randn(rank, layer.in_features, generator=generator) / layer.in_features**0.5,
                0.1 * torch.randn(layer.out_features, rank, generator=generator),
                1.0,
            )
            for name, layer in linear.items()
        }
    }


def interleaved(
    calls: Sequence[tuple[Callable[[Inputs], object], Inputs]],
    times: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Seconds of each call, all of them run in turn `times` times after two rounds of warm-up."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(-2, times):
        for (run, inputs), taken in zip(calls, seconds, strict=True):
            began = clock()
            run(inputs)
            if turn >= 0:
                taken.append(clock() - began)
    return seconds


if __name__ == "__main__":
    main()
