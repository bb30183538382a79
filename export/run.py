"""One export, from a checkpoint to an installed repository. Reads as the list of its steps."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from export import release
from export.adapters import Bank, Source
from export.checkpoint import Checkpoint, weight_files
from export.component import fingerprint
from export.component.build import RECORD, Builder, Make
from export.engines import Engine
from export.errors import BadInputError, ExportError
from export.precisions import Precisions
from export.report import Report, Row
from export.store import Store
from families import load
from families.errors import BadCheckpointError
from families.interface import Component, Limits, LoraFiles, Modules, Table


@dataclass(frozen=True)
class Options:
    """The command line, checked. `default_steps` and `guidance_when_zero`: None for the family's own."""

    limits: Limits
    precisions: Precisions = field(default_factory=Precisions)
    default_steps: int | None = None
    guidance_when_zero: float | None = None
    adapters: tuple[Source, ...] = ()


def export(checkpoint: Checkpoint, engine: Engine, options: Options, store: Store, report: Report) -> None:
    """Builds what is not up to date, then switches the repository over.

    Raises ExportError; whatever happens, the installed repository stays whole.
    """
    try:
        table = cast("Table", load(checkpoint.family, "table"))
        release.require(checkpoint, table, options)
        bank = _bank(checkpoint, options.adapters)
        components = [bank.extend(component) for component in table.components(checkpoint.path, options.limits)]
        settings = release.settings(checkpoint, table, components, bank.routes, options)
        chosen = options.precisions.of(components, engine)
        store.require_free(release.models(components))
        makes = [_make(checkpoint, engine, component, chosen[component.name], bank) for component in components]
        with store.locked():
            modules = cast("Modules", load(checkpoint.family, "modules"))
            builder = Builder(checkpoint, modules, engine, bank, store.caches)
            engines = {make.component.name: _installed(store, report, builder, make) for make in makes}
            store.install(release.compose(checkpoint, table, components, settings, engines))
    except BadCheckpointError as error:
        raise BadInputError(str(error)) from error


def _bank(checkpoint: Checkpoint, sources: Sequence[Source]) -> Bank:
    if not sources:
        return Bank((), ())
    reader = cast("LoraFiles", load(checkpoint.family, "lora"))
    return Bank(sources, [reader.read_lora(source.file, checkpoint.path) for source in sources])


def _make(checkpoint: Checkpoint, engine: Engine, component: Component, precision: str, bank: Bank) -> Make:
    folder = checkpoint.path / component.weights
    digest = fingerprint.of_component(
        component,
        checkpoint.family,
        [folder / "config.json", *weight_files(folder)],
        {"kind": engine.name, **engine.versions()},
        precision,
        adapters=bank.fingerprints(component),
    )
    return Make(component, precision, digest)


def _installed(store: Store, report: Report, builder: Builder, make: Make) -> Path:
    """The component's folder in the store, built if need be."""
    name = make.component.name
    folder = store.engine(name, make.fingerprint)
    fresh = folder is None
    if folder is None:
        with (
            store.building(name, make.fingerprint) as unfinished,
            report.progress(name, make.stages) as bar,
        ):
            builder.build(make, unfinished, bar)
        folder = store.engine(name, make.fingerprint)
    if folder is None:
        raise ExportError(f"{name} vanished from the store while it was exported")
    record: Mapping[str, object] = json.loads((folder / RECORD).read_text("utf-8"))
    report.add(Row.of(name, record, fresh))
    return folder
