"""One export, from a checkpoint to an installed repository. Reads as the list of its steps."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from export import check, ensemble, fingerprint, graph, triton_config
from export.adapters import Bank, Source
from export.checkpoint import Checkpoint, weight_files
from export.engines import Engine, Work, reference
from export.errors import BadInputError, ExportError
from export.report import Bar, Report, Row
from export.store import HAND_WRITTEN, SOURCE, Store
from families import load
from families.errors import BadCheckpointError
from families.schedules import NoiseSchedules
from families.tensors import ADAPTER, Component, Components, Limits

SEED = 7
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
STAGES = 2
"""Loading with tracing, and compiling; each check shape is one more."""


@dataclass(frozen=True)
class Options:
    """The command line, checked."""

    precision: str
    limits: Limits
    guidance_when_zero: float
    adapters: tuple[Source, ...] = ()


class Export:
    """One run over one checkpoint. Raises ExportError; whatever happens, the installed repository stays whole."""

    def __init__(self, checkpoint: Checkpoint, engine: Engine, options: Options, store: Store, report: Report) -> None:
        self._checkpoint, self._engine, self._options = checkpoint, engine, options
        self._store, self._report = store, report
        self._family = cast("Components", load(checkpoint.family, "components"))

    def run(self) -> None:
        """Builds what is not up to date, then switches the repository over."""
        options = self._options
        if options.limits.max_batch < self._family.ROWS_PER_EDIT:
            rows = self._family.ROWS_PER_EDIT
            raise BadInputError(f"--max-batch must be at least {rows}: a guided edit has that many rows")
        try:
            self._bank = Bank(options.adapters, self._family.read_lora)
            table = [self._bank.extend(c) for c in self._family.table(self._checkpoint.path, options.limits)]
            self._require_files()
            self._store.require_free([*(component.name for component in table), ensemble.NAME])
            prints = {component.name: self._fingerprint(component) for component in table}
            with self._store.locked():
                engines = {component.name: self._component(component, prints[component.name]) for component in table}
                self._pipeline = self._settings(table)
                ensembles = {ensemble.NAME: self._condition(table)}
                self._store.install(self._release(prints, ensembles), engines, ensembles, self._write_pipeline)
        except BadCheckpointError as error:
            raise BadInputError(str(error)) from error

    def _require_files(self) -> None:
        for name in self._family.FILES:
            if not (self._checkpoint.path / name).exists():
                raise BadInputError(f"{self._checkpoint.path / name} is missing")
        self._family.require_files(self._checkpoint.path, self._options.limits)
        NoiseSchedules(self._checkpoint.path / "scheduler" / "scheduler_config.json", self._checkpoint.scheduler)

    def _fingerprint(self, component: Component) -> str:
        folder = self._checkpoint.path / component.weights
        files = [folder / "config.json", *weight_files(folder)]
        engine = {"kind": self._engine.name, **self._engine.versions()}
        return fingerprint.of_component(
            component,
            self._checkpoint.family,
            files,
            engine,
            self._options.precision,
            adapters=self._bank.prints(component),
        )

    def _component(self, component: Component, digest: str) -> Path:
        """The component's folder in the store, built if need be."""
        began = time.monotonic()
        folder = self._store.engine(component.name, digest)
        fresh = folder is None
        if folder is None:
            with self._store.building(component.name, digest) as unfinished:
                self._build(component, digest, unfinished)
            folder = self._store.engine(component.name, digest)
        if folder is None:
            raise ExportError(f"{component.name} vanished from the store while it was exported")
        record = json.loads((folder / "component.json").read_text("utf-8"))
        seconds = time.monotonic() - began if fresh else None
        self._report.add(
            Row(component.name, record["bytes"], record["error"], record["tolerance"], record["checked_in"], seconds)
        )
        return folder

    def _build(self, component: Component, digest: str, folder: Path) -> None:
        version = folder / "1"
        version.mkdir()
        precision, file = self._options.precision, folder / "model.onnx"
        with self._report.progress(component.name, STAGES + len(component.shapes)) as bar:
            bar("tracing")
            self._trace(component, precision, file)
            bar("compiling")
            work = Work(file, component, precision, version, self._store.caches, bar.part)
            self._engine.compile(work)
            if self._engine.runs_here():
                checked_in, run = self._engine.name, self._engine.open(work)
            else:
                checked_in, run = reference.NAME, reference.open_onnx(file, component, precision)
            errors = list(self._errors(component, run, bar))
            for leftover in folder.glob("*.onnx*"):
                leftover.unlink()
        tolerance = component.tolerance[precision]
        if not max(errors) <= tolerance:
            message = f"{component.name} in {precision} is out of tolerance: relative error {max(errors):.2e} against"
            raise ExportError(f"{message} torch, {tolerance:.0e} allowed; nothing was installed")
        record = {"error": max(errors), "tolerance": tolerance, "checked_in": checked_in}
        record |= self._record(component, digest, version)
        (folder / "component.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        config = triton_config.write(component, self._engine.serving(precision))
        (folder / "config.pbtxt").write_text(config, "utf-8")

    def _trace(self, component: Component, precision: str, file: Path) -> None:
        module = self._module(component)
        narrow = self._engine.traces_narrow
        if narrow:
            module.to(DTYPES[precision])
        graph.write(module, component, self._inputs(component, component.shapes[1]), file, simplify=narrow)

    def _module(self, component: Component) -> torch.nn.Module:
        return self._bank.fill(self._family.module(component.name, self._checkpoint.path), component)

    def _record(self, component: Component, digest: str, version: Path) -> dict[str, Any]:
        """What the engine is, and which machine it fits."""
        return {
            "engine": self._engine.name,
            "precision": self._options.precision,
            "versions": dict(self._engine.versions()),
            "fingerprint": digest,
            "bytes": sum(path.stat().st_size for path in version.rglob("*") if path.is_file()),
            "component": asdict(component),
        }

    def _errors(self, component: Component, run: check.Run, bar: Bar) -> Iterator[float]:
        """The relative error at each of the table's check shapes."""
        module = self._module(component)
        for sizes in component.shapes:
            bar("checking " + " x ".join(str(size) for size in sizes.values()))
            yield check.against_torch(run, module, component, self._inputs(component, sizes))

    def _inputs(self, component: Component, sizes: Any) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(SEED)
        shapes = [graph.shape_of(tensor.axes, sizes) for tensor in component.inputs]
        return [
            self._bank.sample(shape[0]) if tensor == ADAPTER else self._family.sample(tensor, shape, generator)
            for tensor, shape in zip(component.inputs, shapes, strict=True)
        ]

    def _condition(self, table: Sequence[Component]) -> str:
        names = [component.name for component in table]
        encoders = table[: names.index(self._family.DENOISER)]
        return ensemble.condition(encoders, self._family.CONDITIONING, self._bank.routes)

    def _settings(self, table: Sequence[Component]) -> dict[str, Any]:
        """What the Python models must know of this export."""
        limits = self._options.limits
        return {
            "family": self._checkpoint.family,
            "scheduler": self._checkpoint.scheduler,
            "guidance_when_zero": self._options.guidance_when_zero,
            "max_batch": limits.max_batch,
            "adapters": list(self._bank.routes),
            "banks": [component.name for component in table if ADAPTER in component.inputs],
            "picture": dict(self._family.picture(self._checkpoint.path, limits)),
        }

    def _files(self) -> Iterator[Path]:
        """The checkpoint's files that the Python models read."""
        for name in self._family.FILES:
            path = self._checkpoint.path / name
            yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]

    def _release(self, prints: dict[str, str], ensembles: dict[str, str]) -> str:
        python = [path for model in HAND_WRITTEN for path in _sources(SOURCE / model)]
        python += sorted((fingerprint.ROOT / "families").rglob("*.py"))
        return fingerprint.of_files(
            [*self._files(), *python], {"pipeline": self._pipeline, "engines": prints, "ensembles": ensembles}
        )

    def _write_pipeline(self, folder: Path) -> None:
        (folder / "pipeline.json").write_text(json.dumps(self._pipeline, indent=1) + "\n", "utf-8")
        for file in self._files():
            target = folder / file.relative_to(self._checkpoint.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _sources(model: Path) -> list[Path]:
    return [model / "config.pbtxt", *sorted((model / "1").glob("*.py"))]
