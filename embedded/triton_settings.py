"""What Triton and its models read of the environment: judged before Triton starts, whose log would hide what is wrong.

The models judge it again, for who starts Triton otherwise. Needs nothing but the standard library: it is in Triton's
image too.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_REPLICAS = 64
"""Tritons for each GPU or, without any, in all."""

_MIB, _TIB = 1 << 20, 1 << 40


@dataclass(frozen=True)
class Number:
    """A number from ``least`` to ``most``; ``unit``: what it is called where it need not be whole.

    ``off``: whether it may be 0 as well.
    """

    least: int
    most: int
    unit: str = ""
    off: bool = False

    def read(self, name: str, text: str) -> float:
        """What the variable ``name`` says. Raises ValueError, naming it, for what is no such number."""
        value = _float(text) if self.unit else _whole(text)
        if not (self.least <= value <= self.most or (self.off and value == 0)):
            raise ValueError(f"{name} is {text[:64]!r}, and must be {self.allowed}")
        return value

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        return f"{'0, or ' * self.off}{self.unit or 'a whole number'} from {self.least} to {self.most}"


def _main_memory() -> int:
    """Bytes of this machine's."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


NUMBERS = {
    "TRITOUCH_DENOISER_CALLS": Number(1, 64),
    "TRITOUCH_IN_PLACE_BYTES": Number(1, _TIB),
    "TRITOUCH_MAX_IMAGE_BYTES": Number(1, _TIB),
    "TRITOUCH_MAX_IMAGE_PIXELS": Number(1, _TIB),
    "TRITOUCH_MAX_JOBS": Number(1, 1_000_000),
    "TRITOUCH_TRITON_CACHE_BYTES": Number(1024, _main_memory(), off=True),
    "TRITOUCH_TRITON_REPLICAS": Number(1, MOST_REPLICAS),
    "TRITOUCH_TRITON_SHM_BYTES": Number(_MIB, _TIB),
    "TRITOUCH_WARM_UP_SECONDS": Number(0, 86_400, "seconds"),
}
"""By variable. Where one is not set, or empty, who reads it has a default."""


def judged(env: Mapping[str, str]) -> dict[str, float]:
    """The numbers that an environment sets. Raises ValueError, a line that names the first that is wrong."""
    return {name: number.read(name, env[name]) for name, number in NUMBERS.items() if env.get(name)}


def _whole(text: str) -> float:
    # As many digits as no bound has: Python reads no more than some thousand.
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else math.nan


def _float(text: str) -> float:
    try:
        return float(text) if text.isascii() else math.nan
    except ValueError:
        return math.nan
