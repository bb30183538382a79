"""Makes one component in a folder: loads it, traces it, compiles it, compares it, and writes what is known of it."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from export.adapters import Bank
from export.checkpoint import Checkpoint
from export.component import check, config, graph
from export.engines import Engine, Run, Work, reference
from export.errors import ExportError
from families.interface import ADAPTER, Component, Modules

SEED = 7
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
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

    def build(self, make: Make, folder: Path, bar: Bar) -> None:
        """Fills `folder`, a Triton model. Raises ExportError, also where the engine is out of tolerance."""
        component, precision = make.component, make.precision
        seconds, version, file = Seconds(), folder / "1", folder / "model.onnx"
        version.mkdir()
        with seconds.of("tracing"):
            bar("tracing")
            module = self._module(component, precision)
            inputs = self._inputs(component, component.shapes[1])
            graph.write(module, component, inputs, file, simplify=self.engine.traces_narrow)
        with seconds.of("compiling"):
            bar("compiling")
            work = Work(file, component, precision, version, self.caches, bar.part)
            self.engine.compile(work)
        with seconds.of("checking"):
            checked_in, run = self._opened(work)
            compared = self._compare(component, run, _widened(module), bar)
        for leftover in folder.glob("*.onnx*"):
            leftover.unlink()
        measured = {"checked_in": checked_in, "compared": compared, "seconds": seconds.spent}
        self._write(make, folder, measured, max(compared.values()))

    def _write(self, make: Make, folder: Path, measured: Mapping[str, Any], error: float) -> None:
        """The engine's record and configuration, if it is within its tolerance."""
        component, precision = make.component, make.precision
        tolerance = component.tolerance[precision]
        if not error <= tolerance:
            message = f"{component.name} in {precision} is out of tolerance: relative error {error:.2e} against"
            raise ExportError(f"{message} torch, {tolerance:.0e} allowed; nothing was installed")
        record = {
            "engine": self.engine.name,
            "precision": precision,
            "versions": dict(self.engine.versions()),
            "fingerprint": make.fingerprint,
            "bytes": sum(path.stat().st_size for path in (folder / "1").rglob("*") if path.is_file()),
            "error": error,
            "tolerance": tolerance,
            **measured,
            "component": asdict(component),
        }
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        (folder / "config.pbtxt").write_text(config.write(component, self.engine.serving(precision)), "utf-8")

    def _module(self, component: Component, precision: str) -> torch.nn.Module:
        """Loaded once, in the type that is traced: weights that are too much for memory twice are there once."""
        dtype = DTYPES[precision] if self.engine.traces_narrow else torch.float32
        module = self.modules.module(component.name, self.checkpoint.path, dtype)
        return self.bank.fill(module, component).to(dtype)

    def _opened(self, work: Work) -> tuple[str, Run]:
        """What the comparison runs in, and one forward pass of it."""
        if self.engine.runs_here():
            return self.engine.name, self.engine.open(work)
        return reference.NAME, reference.open_onnx(work.onnx, work.component)

    def _compare(self, component: Component, run: Run, module: torch.nn.Module, bar: Bar) -> dict[str, float]:
        """The relative error by where it was taken."""
        compared: dict[str, float] = {}
        device = next(module.parameters()).device.type
        for comparison in check.bounded(module, component, lambda sizes: self._inputs(component, sizes), device):
            bar(f"checking {comparison}")
            inputs = self._inputs(component, comparison.sizes)
            compared[str(comparison)] = check.against_torch(run, module, component, inputs)
        return compared

    def _inputs(self, component: Component, sizes: Mapping[str, int]) -> Sequence[torch.Tensor]:
        generator = torch.Generator().manual_seed(SEED)
        return [
            self.bank.sample(sizes) if tensor == ADAPTER else self._sample(tensor, sizes, generator)
            for tensor in component.inputs
        ]

    def _sample(self, tensor: Any, sizes: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
        return self.modules.sample(tensor, tensor.shape(sizes), generator)


def _widened(module: torch.nn.Module) -> torch.nn.Module:
    """The same weights where torch computes: on a GPU as they are; on a processor, which is slow in narrow types, in
    fp32, rounded as the engine's."""
    return module.cuda() if torch.cuda.is_available() else module.float()
