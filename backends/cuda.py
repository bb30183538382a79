"""CUDA's driver API, called by name. Needs the package cuda-bindings, which only machines with a GPU have."""

from __future__ import annotations

import importlib
from typing import Any


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
        """What the driver's function gives beside its status. Raises RuntimeError naming the function and the error."""
        error, *values = getattr(self.driver, call)(*arguments)
        if error != self.driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"{call} failed: {error.name}")
        return values[0] if values else None
