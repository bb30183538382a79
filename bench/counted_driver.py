"""CUDA's driver, whose copies to and from the GPU are counted in a file; or main memory in its place."""

import ctypes
import enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

COPIES = ("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync")
BYTES_AT = 2
"""Place among their arguments: how many bytes."""


class Copied(NamedTuple):
    """Calls and bytes of copies to the GPU, and from it."""

    to_calls: int
    to_bytes: int
    from_calls: int
    from_bytes: int

    @classmethod
    def read(cls, counts: Path) -> "Copied":
        """What a process has counted so far; zeros where none has begun."""
        return cls(*np.fromfile(counts, np.int64).tolist()) if counts.exists() else cls(0, 0, 0, 0)


class Counted:
    """A driver, `cuda.bindings.driver` for one, that counts into the file `counts`."""

    def __init__(self, driver: Any, counts: Path) -> None:
        self._driver = driver
        self._counts = np.memmap(counts, np.int64, "w+", shape=(len(COPIES), 2))

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._driver, name)
        if name not in COPIES:
            return call
        own = self._counts[COPIES.index(name)]

        def counting(*arguments: Any) -> Any:
            own[:] += (1, arguments[BYTES_AT])
            return call(*arguments)

        return counting


class Status(enum.Enum):
    """Of the driver's errors the one that says that there is none."""

    CUDA_SUCCESS = 0


class MainMemory:
    """As much of CUDA's driver API as `backends.plan` calls, with main memory as the GPU's."""

    CUresult = Status

    def __init__(self) -> None:
        self.held: list[Any] = []

    def cuMemAlloc(self, size: int) -> tuple[Status, int]:  # noqa: N802 - the driver's name
        self.held.append(ctypes.create_string_buffer(size))
        return Status.CUDA_SUCCESS, ctypes.addressof(self.held[-1])

    def cuMemcpyHtoDAsync(self, to: int, source: int, size: int, _stream: Any) -> tuple[Status]:  # noqa: N802
        ctypes.memmove(to, source, size)
        return (Status.CUDA_SUCCESS,)

    cuMemcpyDtoHAsync = cuMemcpyHtoDAsync  # noqa: N815

    def __getattr__(self, name: str) -> Any:
        if name in {"cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuStreamCreate"}:
            return lambda *_: (Status.CUDA_SUCCESS, 0)
        if name in {"cuInit", "cuCtxSetCurrent", "cuStreamSynchronize"}:
            return lambda *_: (Status.CUDA_SUCCESS,)
        raise AttributeError(name)
