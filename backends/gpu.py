"""Which GPU this machine has, asked of its driver. Needs no package; used before anything heavy is loaded."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_LIBRARY = "libcuda.so.1"
_NAME_BYTES = 256
_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76


@dataclass(frozen=True)
class Gpu:
    """One GPU; `compute_capability` as in ``8.9``."""

    name: str
    compute_capability: str

    def __str__(self) -> str:
        """As in ``NVIDIA L4 (compute capability 8.9)``."""
        return f"{self.name} (compute capability {self.compute_capability})"


def find_gpu(library: str = _LIBRARY) -> Gpu | None:
    """The first GPU that CUDA shows this process; None without a driver or a GPU."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    major, minor = ctypes.c_int(), ctypes.c_int()
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetName(name, _NAME_BYTES, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device)
    )
    return None if failed else Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}")
