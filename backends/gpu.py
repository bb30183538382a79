"""Which GPUs this machine has, asked of their driver. Needs no package; used before anything heavy is loaded."""

from __future__ import annotations

import ctypes
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBRARY = "libcuda.so.1"
_NAME_BYTES, _UUID_BYTES = 256, 16
_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76


ALL = "all"


@dataclass(frozen=True)
class Gpu:
    """One GPU; `compute_capability` as in ``8.9``, `uuid` as CUDA_VISIBLE_DEVICES takes it."""

    name: str
    compute_capability: str
    uuid: str = ""

    def __str__(self) -> str:
        """As in ``NVIDIA L4 (compute capability 8.9)``."""
        return f"{self.name} (compute capability {self.compute_capability})"


def find_gpu(library: str = _LIBRARY) -> Gpu | None:
    """The first GPU that CUDA shows this process; None without a driver or a GPU."""
    return next(iter(find_gpus(library)), None)


def find_gpus(library: str = _LIBRARY) -> list[Gpu]:
    """All GPUs that CUDA shows this process, in the order of `nvidia-smi`; none without a driver."""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return []
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return []
    found = [_gpu(cuda, number) for number in range(count.value)]
    return [gpu for gpu in found if gpu is not None]


def _gpu(cuda: ctypes.CDLL, number: int) -> Gpu | None:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    major, minor, identity = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(_UUID_BYTES)
    failed = (
        cuda.cuDeviceGet(ctypes.byref(device), number)
        or cuda.cuDeviceGetName(name, _NAME_BYTES, device)
        or cuda.cuDeviceGetUuid_v2(identity, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device)
    )
    if failed:
        return None
    capability, called = f"{major.value}.{minor.value}", name.value.decode(errors="replace")
    # A part of one has an id and, by its name, a kind of its own: as a GPU's, CUDA_VISIBLE_DEVICES would hide it.
    kind = "MIG" if " MIG " in called else "GPU"
    return Gpu(called, capability, f"{kind}-{uuid.UUID(bytes=identity.raw)}")


def chosen(asked: str, gpus: Callable[[], list[Gpu]] = find_gpus) -> list[Gpu]:
    """The GPUs that are to serve side by side, a Triton each; with ``all`` there may be none.

    Args:
        asked: ``all``, or numbers of GPUs with commas between.
        gpus: finds this machine's GPUs.

    Raises:
        ValueError: a number is no GPU's or there twice, or the GPUs are of several models; says what to write instead.
    """
    words, found = [word.strip() for word in asked.split(",")], gpus()
    if words == [ALL]:
        numbers = list(range(len(found)))
    elif all(word.isascii() and word.isdecimal() for word in words):
        numbers = [int(word) for word in words]
    else:
        raise ValueError(f"{asked!r} is neither {ALL} nor numbers of GPUs with commas between, as in 0,2")
    for number in numbers:
        if number >= len(found) or numbers.count(number) > 1:
            raise ValueError(f"GPU {number} is {'there twice' if number < len(found) else _not_there(found)}")
    _require_alike({number: found[number] for number in numbers})
    return [found[number] for number in numbers]


def _not_there(found: list[Gpu]) -> str:
    return f"not there: this machine has {f'0 to {len(found) - 1}' if found else 'none'}"


def _require_alike(gpus: dict[int, Gpu]) -> None:
    """Engines fit one model of GPU, and all Tritons serve the same."""
    kinds: dict[str, list[str]] = {}
    for number, gpu in gpus.items():
        kinds.setdefault(str(gpu), []).append(str(number))
    if len(kinds) > 1:
        listed = "; ".join(f"{','.join(numbers)} for {kind}" for kind, numbers in kinds.items())
        raise ValueError(f"engines fit one model of GPU, and these are several: choose those of one ({listed})")
