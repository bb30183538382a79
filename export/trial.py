"""The checkpoint's own edits in exact arithmetic: what narrowed layers are calibrated on, and pictures compared with.

Torch makes them, in fp32, so that no engine must be built for it.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch

from export.adapters import Bank, Source
from export.checkpoint import weight_files
from export.component.build import Make
from export.component.schemes import Scheme
from export.component.weights import Compute, Weights, compute_device
from export.engines import Arrays, Engine, Run, Work
from export.errors import BadInputError
from export.likeness import Likeness
from export.rehearsal import Engines, Picture, Rehearsal, Request, files, requests, require_readable
from export.release import SCHEDULER
from export.report import Report
from families import load
from families.interface import DENOISER, Component, Modules, Tensors
from families.parts.weight_files import stored

CODE = (Path(__file__), Path(__file__).with_name("rehearsal.py"))
OF_LINEAR, OF_CONVOLUTION = 2, 4
"""Axes of the weight of a linear layer, and of a convolution of pictures."""


@dataclass(frozen=True)
class Trial:
    """The edits of one export. `pictures`: their folder. `accept`: whether they may come out however unlike."""

    rehearsal: Rehearsal
    components: Sequence[Component]
    bank: Bank
    adapters: tuple[Source, ...]
    pictures: Path
    accept: bool = False

    def files(self) -> list[Path]:
        """What the edits follow from, but for settings."""
        checkpoint = self.rehearsal.checkpoint
        weights = {file for one in self.components for file in weight_files(checkpoint.path / one.weights)}
        return [*files(self.pictures), *sorted(weights), checkpoint.path / SCHEDULER, *CODE]

    def settings(self) -> str:
        """What the edits follow from of settings."""
        own = self.rehearsal.settings
        held = requests(self.pictures, own)[1]
        said = {"steps": [one.steps for one in held], "guidance": (own.guidance_scale, own.image_guidance_scale)}
        return json.dumps({**said, "shift": own.shift})

    def require_narrowed(self, makes: Sequence[Make], engine: Engine) -> None:
        """Raises BadInputError, naming one and what to do, where a component is not met in the edits that it would be
        calibrated on, or has no layer that is faster narrowed."""
        for make in makes:
            folder = self.rehearsal.checkpoint.path / make.component.weights
            scheme = engine.scheme(make.precision)
            if scheme and scheme.activations and make.component not in self.components:
                raise BadInputError(
                    f"--precision {make.precision}: {make.component.name} takes no part in the edits that "
                    f"{make.precision} is calibrated on; name a float, or w8, which needs no calibration"
                )
            if scheme and not any(_gains(one.shape, scheme) for one in stored(weight_files(folder)).values()):
                raise BadInputError(
                    f"--precision {make.precision}: {make.component.name} has no convolutions, and no linear layers of "
                    f"{scheme.convolved} inputs; without AVX-512 and VNNI all else is slower by it on this processor; "
                    "name fp32, or w8, which saves memory"
                )

    def require_readable(self) -> None:
        """Raises BadInputError where a picture or sentence cannot serve."""
        require_readable(self.pictures, self.rehearsal.settings)

    def exact(self, samples: Path, calibrated: Sequence[str], report: Report) -> list[Picture]:
        """The held-out pictures. Leaves in `samples` the inputs of the components `calibrated` in all other edits."""
        asked, held = requests(self.pictures, self.rehearsal.settings)
        asked = asked if calibrated else []
        count: dict[str, int] = defaultdict(int)

        def keep(model: str, inputs: Tensors) -> None:
            if model in calibrated:
                folder = samples / model
                folder.mkdir(exist_ok=True)
                np.savez(folder / f"{count[model]:04}.npz", **inputs)
                count[model] += 1

        what = "edits in fp32"
        with self._torch() as runs, report.steps(what, sum(one.steps for one in (*asked, *held))) as step:
            counted = {**runs, DENOISER: counting(runs[DENOISER], step)}
            for _ in self.rehearsal.edits(asked, Engines(self.components, counted, keep)):
                pass
            return list(self.rehearsal.edits(held, Engines(self.components, counted)))

    def compare(
        self, engine: Engine, made: Mapping[str, Path], makes: Sequence[Make], exact: Sequence[Picture], report: Report
    ) -> Likeness:
        """The held-out pictures by the engines in the folders `made`, beside the exact ones."""
        runs = {
            make.component.name: engine.open(
                Work(Path(), make.component, make.precision, made[make.component.name] / "1", Path())
            )
            for make in makes
            if make.component in self.components
        }
        held: list[Request] = requests(self.pictures, self.rehearsal.settings)[1]
        with report.steps("edits by these engines", sum(one.steps for one in held)) as step:
            counted = {**runs, DENOISER: counting(runs[DENOISER], step)}
            return Likeness.of(list(self.rehearsal.edits(held, Engines(self.components, counted))), exact)

    @contextmanager
    def _torch(self) -> Iterator[Mapping[str, Run]]:
        device = compute_device()
        checkpoint = self.rehearsal.checkpoint
        modules = cast("Modules", load(checkpoint.family, "modules"))
        with ExitStack() as stack:
            runs = {}
            for component in self.components:
                module = self.bank.fill(modules.module(component.name, checkpoint.path), component)
                compute = stack.enter_context(Weights(module, torch.float32).computing(device))
                runs[component.name] = partial(_run, compute, component)
            yield runs


def _gains(shape: Sequence[int], scheme: Scheme) -> bool:
    """Whether a weight of this shape may be of a layer that the scheme takes."""
    linear = len(shape) == OF_LINEAR and ("linear" in scheme.kinds or scheme.convolves(shape))
    return linear or len(shape) == OF_CONVOLUTION


def counting(run: Run, step: Callable[[], None]) -> Run:
    """The same, which says so whenever it has run."""

    def counted(inputs: Arrays) -> Arrays:
        made = run(inputs)
        step()
        return made

    return counted


def _run(compute: Compute, component: Component, inputs: Arrays) -> Arrays:
    made = compute(*(torch.from_numpy(inputs[tensor.name]) for tensor in component.inputs))
    return {tensor.name: array.numpy() for tensor, array in zip(component.outputs, made, strict=True)}


@dataclass(frozen=True)
class Known:
    """The likeness of engines that were compared before, by what they and the edits are."""

    folder: Path
    digest: str

    @classmethod
    def of(cls, folder: Path, makes: Sequence[Make], pictures: Sequence[Path], settings: str) -> "Known":
        digest = hashlib.sha256(" ".join([*(make.fingerprint for make in makes), settings]).encode())
        for file in pictures:
            digest.update(file.read_bytes())
        return cls(folder, digest.hexdigest()[:16])

    def read(self) -> Likeness | None:
        try:
            said = json.loads(self._file.read_text("utf-8"))
            return Likeness(tuple(said["psnr"]), tuple(said["ssim"]))
        except (OSError, ValueError, KeyError):
            return None

    def write(self, likeness: Likeness) -> None:
        for older in self.folder.glob("likeness-*.json"):
            older.unlink()
        self._file.write_text(json.dumps(asdict(likeness)) + "\n", "utf-8")

    @property
    def _file(self) -> Path:
        return self.folder / f"likeness-{self.digest}.json"
