"""What an export will need of disk and memory, told before it begins, by the sizes of weights alone.

The tensors of the comparison with torch come to that, within their own bound. Knows no family; what a compiler takes
for itself, its engine kind says.
"""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from backends.machine import memory_left
from export.checkpoint import Checkpoint, weight_files
from export.component.build import Make
from export.component.graph import DTYPES
from export.component.schemes import SCHEMES, Scheme
from export.engines import Engine
from export.errors import BadInputError
from families.parts import pretrained
from families.parts.weight_files import Stored, stored

BASE = 700 << 20
"""Bytes of a process that has imported what components are made with, and traced one."""
WIDE = 4
"""Bytes of a number as torch computes with it on a processor."""


@dataclass(frozen=True)
class Needs:
    """Bytes. `gpu`: of its own memory, 0 where none takes part."""

    disk: int
    memory: int
    gpu: int

    def require(self, folder: Path) -> str:
        """One line of what is needed and what there is. Raises BadInputError for what cannot fit."""
        told = []
        for what, need, free in (
            (f"of disk in {folder}", self.disk, free_disk(folder)),
            ("of memory", self.memory, memory_left()),
            ("of the GPU's memory", self.gpu, free_gpu_memory() if self.gpu else None),
        ):
            if free is not None and need > free:
                raise BadInputError(f"this export needs {need / 1e9:.1f} GB {what}, and {free / 1e9:.1f} are free")
            if need and free is not None:
                told.append(f"{need / 1e9:.1f} GB {what} ({free / 1e9:.1f} are free)")
        return f"needs about {', '.join(told)}"


def of(makes: Sequence[Make], checkpoint: Checkpoint, engine: Engine, folder: Path, together: int) -> Needs:
    """Of making these components, `together` at once, in an empty `folder` of the repository."""
    parts = [_of_one(make, checkpoint, engine, folder) for make in makes]
    memory = sorted((part.memory for part in parts), reverse=True)
    written = max((part.written for part in parts), default=0)
    return Needs(
        disk=sum(part.engine for part in parts) + together * written,
        memory=sum(memory[:together]),
        gpu=max((part.gpu for part in parts), default=0),
    )


@dataclass(frozen=True)
class _Part:
    """Bytes: of the engine, of weights that are written beside the ONNX file, of memory and of the GPU's."""

    engine: int
    written: int
    memory: int
    gpu: int


def _of_one(make: Make, checkpoint: Checkpoint, engine: Engine, folder: Path) -> _Part:
    lying = stored(weight_files(checkpoint.path / make.component.weights))
    own = [weight for name, weight in lying.items() if re.match(make.component.named, name)]
    weights = own or list(lying.values())
    numbers = {weight: weight.bytes // pretrained.DTYPES[weight.dtype].itemsize for weight in weights}
    scheme = SCHEMES.get(make.precision)
    kept = {weight: count * _kept(weight, make, engine).itemsize for weight, count in numbers.items()}
    if scheme:  # all of it, though norms and what is sensitive stay wide: they are few
        kept = {weight: count * _bits(weight, scheme) // 8 for weight, count in numbers.items()}
    linked = _links(weights[0].file, folder)
    apart = [weight for weight in weights if scheme or not (linked and kept[weight] == weight.bytes)]
    compiler, gpu = engine.takes(make.precision, sum(numbers.values()))
    layer = max(numbers.values()) * WIDE * 2
    return _Part(sum(kept.values()), sum(kept[weight] for weight in apart), BASE + layer + compiler, gpu)


def _bits(weight: Stored, scheme: Scheme) -> int:
    """Convolutions may take what the scheme has instead."""
    return SCHEMES[scheme.instead].bits if scheme.instead and len(weight.shape) > 2 else scheme.bits


def _kept(weight: Stored, make: Make, engine: Engine) -> torch.dtype:
    lying = next((name for name, dtype in DTYPES.items() if dtype == pretrained.DTYPES[weight.dtype]), None)
    return DTYPES[engine.keeps(engine.computes(make.precision), lying)]


def _links(file: Path, folder: Path) -> bool:
    """Whether `folder` can have a hard link to a file. Tried, for one disk may be mounted twice, as in containers, and
    some systems grant none of another user's files."""
    link = folder / "link"
    try:
        os.link(file.resolve(), link)
    except OSError:
        return False
    link.unlink()
    return True


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def free_disk(folder: Path) -> int:
    """Bytes that can be written where `folder` is or will be."""
    return shutil.disk_usage(_existing(folder)).free


def free_gpu_memory() -> int | None:
    """Of the first GPU; None where torch sees none."""
    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None
