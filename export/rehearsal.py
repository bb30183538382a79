"""Whole edits without Triton, by whatever stands for the engines: of the checkpoint itself, to calibrate and compare.

Pictures of (H, W, 3) uint8. Knows no family.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from backends.in_place import Place
from backends.tiles import tiled
from export.checkpoint import Checkpoint
from export.component.config import tiling
from export.engines import Run
from export.errors import BadInputError
from export.release import SCHEDULER
from families import finishing, load
from families.alone import denoise_alone
from families.edit import read
from families.errors import InvalidEditError
from families.interface import (
    ADAPTER,
    ADAPTER_SCALE,
    ADAPTERS,
    DENOISER,
    PIXELS,
    PREDICTION,
    REFERENCE,
    ROWS,
    VIEW,
    VISION_ENCODER,
    Array,
    Component,
    Tensors,
)
from families.picture import DecodingLimits, decode, from_tensor, to_tensor
from families.schedules import NoiseSchedules
from families.settings import Settings
from families.sizes import size_rule

OWN = Path(__file__).parent / "calibration"
"""Pictures and sentences that an export has where the user gives none."""
SENTENCES = "sentences.txt"
KINDS = (".jpg", ".jpeg", ".png", ".webp")
FEWEST, MOST = 3, 64
"""Pictures of a folder."""
HELD_OUT = 3
"""One edit in so many is held out of calibration, for the pictures to be compared at."""
MOST_STEPS = 10
"""Of one edit; each has one fewer than that before, down to `FEWEST_STEPS`: so they meet different timesteps."""
FEWEST_STEPS = 6
SEED = 20

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Request:
    """One edit to make."""

    picture: Path
    prompt: str
    steps: int
    seed: int

    def tensors(self) -> Tensors:
        """As `families.edit.read` takes them."""
        return {
            "image": np.array([self.picture.read_bytes()], np.object_),
            "prompt": np.array([self.prompt.encode()], np.object_),
            "num_inference_steps": np.array([self.steps], np.int32),
            "seed": np.array([self.seed], np.uint64),
        }


def requests(folder: Path, settings: Settings) -> tuple[list[Request], list[Request]]:
    """Edits to calibrate on, and those held out: each picture of `folder` with one of its sentences.

    Raises BadInputError where it has no sentences, or fewer than `FEWEST` pictures, or more than `MOST`.
    """
    pictures, sentences = _files(folder)
    steps = _steps(settings)
    made = [
        Request(picture, sentences[place % len(sentences)], steps[place % len(steps)], SEED + place)
        for place, picture in enumerate(pictures)
    ]
    held = made[HELD_OUT - 1 :: HELD_OUT]
    return [one for one in made if one not in held], held


def files(folder: Path) -> list[Path]:
    """Everything of a folder that calibration reads. Raises BadInputError."""
    return [folder / SENTENCES, *_files(folder)[0]]


def require_readable(folder: Path, settings: Settings) -> None:
    """Raises BadInputError, each of them named, where pictures of a folder cannot be edited as they are to be."""
    asked, held = requests(folder, settings)
    wrong = [said for one in (*asked, *held) if (said := _wrong(one, settings))]
    if wrong:
        raise BadInputError(f"--calibration {folder}: {'; '.join(wrong)}")


def _wrong(request: Request, settings: Settings) -> str:
    """What is wrong with its picture or sentence; empty where nothing is."""
    try:
        edit = read(request.tensors(), settings)
        decode(edit.images[0], DecodingLimits(), size_rule(settings.size_rule.encode()))
    except OSError as error:
        return f"{request.picture.name} cannot be read: {error.strerror or error}"
    except InvalidEditError as error:
        return f"{request.picture.name}, with {request.prompt!r}, cannot be edited: {error}"
    return ""


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    try:
        sentences = [line.strip() for line in (folder / SENTENCES).read_text("utf-8-sig").splitlines() if line.strip()]
        pictures = sorted(file for file in folder.iterdir() if file.suffix.lower() in KINDS)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"--calibration {folder}: {SENTENCES}, a sentence a line, cannot be read") from error
    if not sentences:
        raise BadInputError(f"--calibration {folder}: {SENTENCES} has no sentences")
    odd = next((file for file in pictures if not file.is_file()), None)
    if odd:
        raise BadInputError(f"--calibration {odd} is named as a picture, and is no file")
    if not FEWEST <= len(pictures) <= MOST:
        message = f"has {len(pictures)} pictures ({', '.join(KINDS)}); {FEWEST} to {MOST} are needed"
        raise BadInputError(f"--calibration {folder} {message}")
    return pictures, sentences


def _steps(settings: Settings) -> list[int]:
    """Numbers of steps that work, from as many as an edit usually has or `MOST_STEPS`, down to a few."""
    most = min(settings.num_inference_steps, MOST_STEPS)
    return [count for count in reversed(settings.steps) if min(FEWEST_STEPS, most) <= count <= most] or [most]


class Engines:
    """Implements `families.interface.Call`. `runs`: what stands for each component. `watch` sees what goes in.

    What holds a part of the largest picture computes it in tiles, as where it is served.
    """

    def __init__(
        self, table: Sequence[Component], runs: Mapping[str, Run], watch: Callable[[str, Tensors], None] | None = None
    ) -> None:
        self._components, self._runs, self._watch = {one.name: one for one in table}, runs, watch
        of_pictures = [one.name for one in table if [t.name for t in one.inputs] == [PIXELS]]
        self._ensembles = {VIEW if name == VISION_ENCODER else REFERENCE: name for name in of_pictures}
        self.decoder = next(one.name for one in table if one.role == "decoder")

    def __call__(self, model: str, inputs: Tensors) -> Tensors:
        """All outputs of the model, without adapters where it has a bank."""
        if model in self._ensembles:
            picture = decode(inputs["image"][0], DecodingLimits(), size_rule(inputs["size_rule"][0]))
            model, inputs = self._ensembles[model], {PIXELS: to_tensor(picture)}
        component = self._components[model]
        inputs = {tensor.name: inputs[tensor.name] for tensor in component.inputs if tensor.name in inputs}
        if ADAPTER in component.inputs:
            rows = len(next(iter(inputs.values())))
            sizes = {ROWS: rows, ADAPTERS: 1}
            inputs[ADAPTER.name] = np.zeros(ADAPTER.shape(sizes), np.int32)
            inputs[ADAPTER_SCALE.name] = np.zeros(ADAPTER_SCALE.shape(sizes), np.float32)
        return tiled(partial(self._run, model), tiling(component))(inputs)

    def _run(self, model: str, inputs: Tensors, _place: Place | None = None) -> dict[str, Array]:
        if self._watch:
            self._watch(model, inputs)
        return {name: np.array(array) for name, array in self._runs[model](inputs).items()}

    def together(self, *calls: tuple[str, Tensors]) -> Sequence[Tensors]:
        return [self(model, inputs) for model, inputs in calls]


@dataclass(frozen=True)
class Rehearsal:
    """What edits of one export are made with, but its engines."""

    checkpoint: Checkpoint
    settings: Settings

    def edits(self, asked: Sequence[Request], engines: Engines) -> Iterator[Picture]:
        """The pictures, one after the other. Raises BadInputError for one that this kind of checkpoint refuses."""
        family, path = self.checkpoint.family, self.checkpoint.path
        conditioner = load(family, "conditioning").Conditioner(path, self.settings)
        schedules = NoiseSchedules(path / SCHEDULER, self.checkpoint.scheduler)
        for request in asked:
            try:
                edit = read(request.tensors(), self.settings)
                tensors = conditioner(edit, engines)
                plan = load(family, "denoising").plan(edit, tensors, schedules.shifted(edit.shift), self.settings)
            except InvalidEditError as error:
                message = f"{request.prompt!r} of {request.picture} cannot be made: {error}"
                raise BadInputError(f"--calibration: {message}") from error
            latents = denoise_alone(plan, lambda inputs: engines(DENOISER, inputs)[PREDICTION])
            pixels: NDArray[Any] = engines(engines.decoder, latents)[PIXELS]
            yield cast("Picture", finishing.finished(from_tensor(pixels), finishing.inputs(edit), DecodingLimits()))
