"""One export, from a checkpoint to an installed repository. Reads as the list of its steps."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from export import needs, release, tiles, workers
from export.adapter_defaults import AdapterDefaults
from export.adapters import Source, judged_bank
from export.checkpoint import Checkpoint, weight_files
from export.component import fingerprint
from export.component.build import RECORD, Make
from export.component.schemes import SCHEMES
from export.engines import Engine
from export.errors import BadInputError, ExportError
from export.precisions import Precisions
from export.quality import Judge
from export.rehearsal import OWN, Rehearsal
from export.report import Report, Row
from export.store import Store
from export.trial import Trial
from families import load
from families.errors import BadCheckpointError
from families.interface import PIXELS, Component, Limits, Table
from families.preview_decoder import table as preview_decoder
from families.safety_checker import table as safety_checker
from families.step_cache import OFF

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Options:
    """The command line, checked. `default_steps` and `guidance_when_zero`: None for the family's own."""

    limits: Limits
    precisions: Precisions = field(default_factory=Precisions)
    default_steps: int | None = None
    guidance_when_zero: float | None = None
    vae_tile_pixels: int | None = None
    """Of the largest picture that the autoencoder's engines hold; None: of the largest that there is."""
    adapters: tuple[Source, ...] = ()
    safety_checker: Path | None = None
    """A diffusers folder that has one."""
    preview_decoder: Path | None = None
    """A folder of diffusers' AutoencoderTiny."""
    shift: float = 0.0
    """Of the noise schedule; 0 for the checkpoint's own."""
    adapter_defaults: AdapterDefaults = field(default_factory=dict)
    calibration: Path = OWN
    """Pictures and sentences that narrowed engines are calibrated on and compared with."""
    accept_quality: bool = False
    """Whether pictures may be as unlike the exact ones as they come out."""
    cache: str = OFF
    """One of `families.step_cache.CACHES`, of edits that name none."""


def export(checkpoint: Checkpoint, engine: Engine, options: Options, store: Store, report: Report) -> None:
    """Builds what is not up to date, then switches the repository over.

    Raises ExportError; whatever happens, the installed repository stays whole.
    """
    try:
        table = cast("Table", load(checkpoint.family, "table"))
        release.require(checkpoint, table, options)
        workers.begin(checkpoint.family)
        plain = _components(checkpoint, table, options)
        bank = judged_bank(checkpoint, options.adapters, plain)
        components = [*map(bank.extend, plain), *_beside(options, plain)]
        chosen = options.precisions.of(components, engine)
        settings = release.settings(checkpoint, table, components, bank, options)
        store.require_free(release.models(components))
        trial = Trial(
            Rehearsal(checkpoint, settings),
            components[: len(plain)],
            bank,
            options.adapters,
            options.calibration,
            options.accept_quality,
        )
        makes = [_make(checkpoint, engine, component, chosen[component.name], trial) for component in components]
        with store.locked():
            engines = _made(makes, trial, engine, store, report)
            store.install(release.compose(checkpoint, table, components, settings, engines))
    except BadCheckpointError as error:
        raise BadInputError(str(error)) from error


def _components(checkpoint: Checkpoint, table: Table, options: Options) -> Sequence[Component]:
    """The table, in which the autoencoder's engines may be made for less than the largest picture."""
    plain, most = table.components(checkpoint.path, options.limits), options.vae_tile_pixels
    if most is None or most >= options.limits.max_pixels:
        return plain
    small = table.components(checkpoint.path, replace(options.limits, max_pixels=most))
    return tiles.tiled(plain, small)


def _made(makes: Sequence[Make], trial: Trial, engine: Engine, store: Store, report: Report) -> dict[str, Path]:
    """The engines' folders by component; what is not up to date is built, and narrowed ones are held to the floor."""
    checkpoint = trial.rehearsal.checkpoint
    missing = [make for make in makes if store.engine(make.component.name, make.fingerprint) is None]
    with store.scratch() as samples:
        judge = Judge(makes, trial, engine, store.caches, samples)
        judge.require_able()
        job = workers.Job(
            checkpoint,
            engine.name,
            engine.targets,
            trial.adapters,
            trial.bank.layers,
            store,
            samples,
            bool(engine.targets) and engine.runs_here(),
        )
        if missing:
            together = workers.together(job, missing)
            report.say(needs.of(missing, checkpoint, engine, samples, together).require(store.folder))
        judge.prepare(missing, report)
        workers.build(job, missing, report)
        engines = {make.component.name: _installed(store, report, make, make in missing) for make in makes}
        judge(engines, report)
    return engines


def _beside(options: Options, plain: Sequence[Component]) -> list[Component]:
    """Engines that are of no family."""
    made = [safety_checker.component(options.safety_checker)] if options.safety_checker else []
    if options.preview_decoder:
        decoder = next(component for component in plain if component.role == "decoder")
        made.append(preview_decoder.component(options.preview_decoder, decoder, _factor(plain)))
    return made


def _factor(plain: Sequence[Component]) -> int:
    """Pixels along one side of a latent, by how large the least picture is to its encoder and to its decoder."""
    pictures = (t.axes[2] for c in plain for t in c.inputs if t.name == PIXELS)
    latents = (c.inputs[0].axes[2] for c in plain if c.role == "decoder")
    ranges = {axis: sizes for component in plain for axis, sizes in component.ranges.items()}
    return ranges[str(next(pictures))].min // ranges[str(next(latents))].min


def _make(checkpoint: Checkpoint, engine: Engine, component: Component, precision: str, trial: Trial) -> Make:
    folder = checkpoint.path / component.weights
    scheme = SCHEMES.get(precision)
    digest = fingerprint.of_component(
        component,
        checkpoint.family,
        [
            folder / "config.json",
            *_beside_weights(component, checkpoint),
            *weight_files(folder),
            *(trial.files() if scheme and scheme.activations else ()),
        ],
        {
            "kind": engine.name,
            "computes": engine.computes(precision),
            "scheme": repr(engine.scheme(precision)),
            **engine.versions(),
        },
        precision,
        adapters=trial.bank.fingerprints(component),
    )
    return Make(component, precision, digest)


def _beside_weights(component: Component, checkpoint: Checkpoint) -> list[Path]:
    return [file for file in (checkpoint.path / name for name in component.beside) if file.exists()]


def _installed(store: Store, report: Report, make: Make, fresh: bool) -> Path:
    """The component's folder in the store, and its line in the table."""
    folder = store.engine(make.component.name, make.fingerprint)
    if folder is None:
        raise ExportError(f"{make.component.name} vanished from the store while it was exported")
    record: Mapping[str, object] = json.loads((folder / RECORD).read_text("utf-8"))
    report.add(Row.of(make.component.name, record, fresh=fresh))
    return folder
