"""Makes one component in a folder: loads it, traces it, compiles it, compares it, and writes what is known of it."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from export.adapters import Bank
from export.checkpoint import Checkpoint
from export.component import check, config, graph, layers
from export.component.layers import Narrowed
from export.component.schemes import Scheme
from export.component.weights import Weights, compute_device
from export.engines import Engine, Run, Work, reference
from export.errors import ExportError
from families.interface import BANK, Component, Modules

SEED = 7
RECORD = "component.json"
STAGES = 2
"""Loading with tracing, and compiling; each comparison is one more."""


class Bar(Protocol):
    """Told how far making a component has come."""

    def __call__(self, stage: str) -> None:
        """A stage begins."""

    def part(self, done: float) -> None:
        """`done` of the stage under way is over, from 0 to 1."""


@dataclass
class Seconds:
    """How long each part of making a component took."""

    spent: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Adds the block's."""
        began = time.monotonic()
        yield
        self.spent[part] = self.spent.get(part, 0.0) + time.monotonic() - began


@dataclass(frozen=True)
class Make:
    """What is to be made. `fingerprint`: of all that it is made from."""

    component: Component
    precision: str
    fingerprint: str

    @property
    def stages(self) -> int:
        """How often `Builder.build` calls its bar."""
        return STAGES + len(self.component.shapes)


@dataclass(frozen=True)
class Builder:
    """Makes components of one checkpoint with one engine kind. `caches` outlives the export."""

    checkpoint: Checkpoint
    modules: Modules
    engine: Engine
    bank: Bank
    caches: Path
    samples: Path
    """Where the inputs of calibrated components lie, as `export.trial` leaves them."""

    def build(self, make: Make, folder: Path, bar: Bar) -> None:
        """Fills `folder`, a Triton model. Raises ExportError, also where the engine is out of tolerance."""
        component, precision = make.component, make.precision
        seconds, version = Seconds(), folder / "1"
        work = Work(folder / "model.onnx", component, precision, version, self.caches, bar.part)
        version.mkdir()
        with seconds.of("tracing"):
            bar("tracing")
            module = self.bank.fill(self.modules.module(component.name, self.checkpoint.path), component)
            inputs = self._inputs(component, component.shapes[1])
            chosen = list[Narrowed]()
            weights = graph.write(module, inputs, work, self.engine, self._choosing(make, chosen, bar))
        with seconds.of("compiling"):
            bar("compiling")
            self.engine.compile(work)
        with seconds.of("checking"):
            checked_in, run = self._opened(work)
            compared = self._compare(make, run, weights, bar)
        for leftover in folder.glob("*.onnx*"):
            leftover.unlink()
        measured: dict[str, Any] = {"checked_in": checked_in, "compared": compared, "seconds": seconds.spent}
        if chosen:
            measured |= {"wide": [*chosen[0].wide], "slower": [*chosen[0].slower], "layers": chosen[0].counts()}
        self._write(make, folder, measured, max(compared.values()))

    def _write(self, make: Make, folder: Path, measured: Mapping[str, Any], error: float) -> None:
        """The engine's record and configuration, if it is within its tolerance."""
        component, precision = make.component, make.precision
        tolerance = component.tolerance[precision]
        if not error <= tolerance:
            message = f"{component.name} in {precision} is out of tolerance: relative error {error:.2e} against"
            raise ExportError(f"{message} torch, {tolerance:.0e} allowed; nothing was installed")
        scheme = self.engine.scheme(precision)
        record = {
            "engine": self.engine.name,
            "precision": precision,
            "scheme": asdict(scheme) if scheme else None,
            "versions": dict(self.engine.versions()),
            "fingerprint": make.fingerprint,
            "bytes": sum(path.stat().st_size for path in (folder / "1").rglob("*") if path.is_file()),
            "error": error,
            "tolerance": tolerance,
            **measured,
            "component": asdict(component),
        }
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        (folder / "config.pbtxt").write_text(
            config.write(component, self.engine.serving(component, precision)), "utf-8"
        )

    def _opened(self, work: Work) -> tuple[str, Run]:
        """What the comparison runs in, and one forward pass of it."""
        if self.engine.runs_here():
            return self.engine.name, self.engine.open(work)
        return reference.NAME, reference.open_onnx(work.onnx, work.component)

    def _calibrated(self, make: Make) -> Scheme | None:
        """The scheme of what is calibrated: where activations are narrowed."""
        scheme = self.engine.scheme(make.precision)
        return scheme if scheme and scheme.activations else None

    def _choosing(self, make: Make, chosen: list[Narrowed], bar: Bar) -> graph.Choose | None:
        """How layers are chosen where activations are narrowed; what is chosen is added to `chosen`."""
        scheme = self._calibrated(make)
        if scheme is None:
            return None

        def choose(weights: Weights) -> Narrowed:
            chosen.append(layers.of(weights, scheme, self._samples(make.component), bar.part))
            return chosen[0]

        return choose

    def _samples(self, component: Component) -> list[list[torch.Tensor]]:
        """Its inputs in the edits that it is calibrated on."""
        found = []
        for file in sorted((self.samples / component.name).glob("*.npz")):
            with np.load(file) as arrays:
                found.append([torch.from_numpy(arrays[tensor.name]) for tensor in component.inputs])
        return found

    def _compare(self, make: Make, run: Run, weights: Weights, bar: Bar) -> dict[str, float]:
        """The relative error by where it was taken: of what is calibrated in its own edits, else at the table's shapes.
        Torch computes on a GPU where there is one, in the engine's type;
               on a processor, which is slow in narrow types, in fp32, with weights rounded as the engine's."""
        compared, component = dict[str, float](), make.component
        device = compute_device()
        if device.type == "cpu":
            weights.widen(torch.float32)
        pairs: Iterable[tuple[str, Sequence[torch.Tensor]]]
        if self._calibrated(make):
            pairs = _spread(self._samples(component), len(component.shapes))
        else:
            sampled = partial(self._inputs, component)
            comparisons = list(check.bounded(weights.module, component, sampled, device.type))
            pairs = ((str(comparison), sampled(comparison.sizes)) for comparison in comparisons)
        with weights.computing(device) as compute:
            for where, inputs in pairs:
                bar(f"checking {where}")
                compared[where] = check.against_torch(run, compute, component, inputs)
        return compared

    def _inputs(self, component: Component, sizes: Mapping[str, int]) -> Sequence[torch.Tensor]:
        generator = torch.Generator().manual_seed(SEED)
        return [
            self.bank.sample(tensor, sizes) if tensor in BANK else self._sample(tensor, sizes, generator)
            for tensor in component.inputs
        ]

    def _sample(self, tensor: Any, sizes: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
        return self.modules.sample(tensor, tensor.shape(sizes), generator)


def _spread(samples: list[list[torch.Tensor]], count: int) -> list[tuple[str, list[torch.Tensor]]]:
    """So many of the samples, spread over all, each with where it is of."""
    places = [len(samples) * place // count for place in range(count)]
    return [(f"call {place + 1} of {len(samples)} of its edits", samples[place]) for place in places]
