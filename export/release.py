"""What an export installs beside its engines: settings, the models that follow from the family, the Python models."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from export import adapter_defaults, configs
from export.adapters import Bank
from export.checkpoint import Checkpoint
from export.component import fingerprint
from export.errors import BadInputError
from export.store import HAND_WRITTEN, SOURCE, Release
from families import load
from families.edit import MAX_STEPS
from families.interface import ADAPTER, MASK, PREPROCESS, Component, Denoising, Table
from families.schedules import NoiseSchedules
from families.settings import FILE, Settings

if TYPE_CHECKING:
    from export.run import Options

SCHEDULER = "scheduler/scheduler_config.json"


def require(checkpoint: Checkpoint, table: Table, options: "Options") -> None:
    """Raises BadInputError or BadCheckpointError, before anything is built, for what no edit could be served with."""
    unknown = sorted(options.limits.options - set(table.OPTIONS))
    if unknown:
        known = ", ".join(sorted(table.OPTIONS)) or "none"
        raise BadInputError(f"--option {unknown[0]} is unknown to this kind of checkpoint; options: {known}")
    for name in table.FILES:
        if not (checkpoint.path / name).exists():
            raise BadInputError(f"{checkpoint.path / name} is missing")
    table.require_files(checkpoint.path, options.limits)


def settings(
    checkpoint: Checkpoint,
    table: Table,
    components: Sequence[Component],
    bank: Bank,
    options: "Options",
) -> Settings:
    """What the Python models must know of this export.

    Raises BadInputError for a bound that no edit fits, BadCheckpointError for a sampler that cannot make the default
    number of steps.
    """
    limits, own = options.limits, table.settings(checkpoint.path, options.limits)
    if limits.max_batch < own.rows:
        raise BadInputError(f"--max-batch must be at least {own.rows}: a guided edit has that many rows")
    if limits.max_images is not None and limits.max_images > own.max_images:
        raise BadInputError(f"--max-images must be at most {own.max_images} for this kind of checkpoint")
    steps = options.default_steps or own.num_inference_steps
    denoising = cast("Denoising", load(checkpoint.family, "denoising"))
    schedules = NoiseSchedules(checkpoint.path / SCHEDULER, checkpoint.scheduler)
    tokens, config = own.max_tokens // limits.max_batch, schedules.config
    counts = range(1, MAX_STEPS + 1)
    working = schedules.shifted(options.shift).working(
        counts, steps, lambda count: denoising.noise(count, tokens, config)
    )
    adapter_defaults.require(options.adapter_defaults, bank.routes, working, schedules)
    guidance = options.guidance_when_zero
    return Settings(
        family=checkpoint.family,
        scheduler=checkpoint.scheduler,
        steps=tuple(working),
        num_inference_steps=steps,
        guidance_scale=own.guidance_scale if guidance is None else guidance,
        image_guidance_scale=own.image_guidance_scale,
        max_images=own.max_images,
        max_pixels=own.max_pixels or limits.max_pixels,
        size_rule=own.size_rule,
        canvas=own.canvas,
        negative_prompt=own.negative_prompt,
        max_rows=limits.max_batch,
        max_tokens=own.max_tokens,
        adapters=bank.routes,
        banks={component.name: bank.changing(component) for component in components if ADAPTER in component.inputs},
        outputs={
            PREPROCESS: (MASK,),
            **{model.name: tuple(tensor.name for tensor in model.outputs) for model in _models(components)},
        },
        own=own.own,
        shift=options.shift,
        adapter_defaults=options.adapter_defaults,
        safety=_safety(options.safety_checker),
        cache=options.cache,
    )


def _safety(folder: Path | None) -> dict[str, object] | None:
    """What `edit` must know of the safety checker in a diffusers folder, where there is one."""
    if folder is None:
        return None
    from families.safety_checker import RULE, modules, table  # noqa: PLC0415 - seconds, and not for every export

    return {RULE: table.preparation(folder).to_json(), **modules.thresholds(folder)}


def models(components: Sequence[Component]) -> list[str]:
    """Every model that the export writes, `edit` apart."""
    return [model.name for model in _models(components)]


def _models(components: Sequence[Component]) -> list[Component | configs.Ensemble]:
    return [*components, *configs.ensembles(components)]


def compose(
    checkpoint: Checkpoint,
    table: Table,
    components: Sequence[Component],
    made: Settings,
    engines: Mapping[str, Path],
) -> Release:
    """What is installed of this export: the table's files, `engines` by component, and what follows."""
    edit = configs.edit((SOURCE / configs.EDIT / "contract.pbtxt").read_text("utf-8"), made)
    written = {ensemble.name: ensemble.config() for ensemble in configs.ensembles(components)}
    kept = [*_files(checkpoint.path, table.FILES)]

    def write_pipeline(folder: Path) -> None:
        (folder / FILE).write_text(made.text(), "utf-8")
        for file in kept:
            target = folder / file.relative_to(checkpoint.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)

    python = [path for model in HAND_WRITTEN for path in _sources(SOURCE / model)]
    digest = fingerprint.of_files(
        [*kept, *python, *fingerprint.of_family(checkpoint.family)],
        {
            "settings": made.text(),
            "engines": {name: folder.name for name, folder in engines.items()},
            "configs": {configs.EDIT: edit, **written},
        },
    )
    return Release(digest, engines, written, edit, write_pipeline)


def _files(checkpoint: Path, names: Sequence[str]) -> Iterator[Path]:
    """The checkpoint's files that the Python models read."""
    for name in names:
        path = checkpoint / name
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _sources(model: Path) -> list[Path]:
    """What is written by hand: a link is of the checkout's own export, and leads nowhere where that was removed."""
    files = (*sorted(model.glob("*.pbtxt")), *sorted((model / "1").glob("*.py")))
    return [file for file in files if not file.is_symlink()]
