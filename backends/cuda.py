"""CUDA's driver API, called by name. Needs the package cuda-bindings, which only machines with a GPU have."""

from __future__ import annotations

import importlib
from typing import Any

FOR_GOOD = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        "ASSERT",
        "CONTAINED",
        "CONTEXT_IS_DESTROYED",
        "ECC_UNCORRECTABLE",
        "EXTERNAL_DEVICE",
        "HARDWARE_STACK_ERROR",
        "ILLEGAL_ADDRESS",
        "ILLEGAL_INSTRUCTION",
        "INVALID_ADDRESS_SPACE",
        "INVALID_PC",
        "LAUNCH_FAILED",
        "LAUNCH_TIMEOUT",
        "MISALIGNED_ADDRESS",
        "MPS_CLIENT_TERMINATED",
        "NVLINK_UNCORRECTABLE",
        "TENSOR_MEMORY_LEAK",
    )
)
"""After these, by the driver's documentation, every further call fails until another process begins anew."""


class GpuLostError(RuntimeError):
    """The GPU does nothing more for this process."""


class Cuda:
    """The driver, and one GPU's primary context, which is made the calling thread's by `use`."""

    def __init__(self, device: int) -> None:
        """Raises RuntimeError: the package is missing, or CUDA failed."""
        try:
            self.driver: Any = importlib.import_module("cuda.bindings.driver")
        except ImportError as error:
            raise RuntimeError("the package cuda-bindings is not installed") from error
        self("cuInit", 0)
        self._context = self("cuDevicePrimaryCtxRetain", self("cuDeviceGet", device))
        self.use()

    def use(self) -> None:
        """CUDA keeps the current context for each thread. Raises RuntimeError."""
        self("cuCtxSetCurrent", self._context)

    def __call__(self, call: str, *arguments: Any) -> Any:
        """What the driver's function gives beside its status. Raises RuntimeError naming the function and the error,
        GpuLostError where it is one `FOR_GOOD`."""
        error, *values = getattr(self.driver, call)(*arguments)
        if error != self.driver.CUresult.CUDA_SUCCESS:
            kind = GpuLostError if error.name in FOR_GOOD else RuntimeError
            raise kind(f"{call} failed: {error.name}")
        return values[0] if values else None
