"""Which instructions for products of int8 engines may count on: this processor's, or fewer where that is asked for."""

from __future__ import annotations

import os
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
HELD = "TRITOUCH_ISA"
"""Has an export made for a lesser processor, by oneDNN's names. Its own variable, `ONEDNN_MAX_CPU_ISA`, would hold the
comparisons to these, too, in which OpenVINO crashes of odd sizes on a wider processor."""
VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Of Linux' names. Without any, two products are added in 16 bits, which overflow, and stay at the largest number."""
AVX512 = frozenset({"avx512bw"})
WITHOUT = {"AVX2": VNNI | AVX512, "AVX512_CORE": VNNI, "AVX512_CORE_VNNI": frozenset()}
"""What there is none of with these."""


def features(cpuinfo: Path | None = None) -> frozenset[str]:
    """Those of `VNNI` and `AVX512` that products may use; all where it cannot be read, as of a processor of today."""
    try:
        lines = (cpuinfo or CPUINFO).read_text("utf-8").splitlines()
    except OSError:
        lines = []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), None)
    found = VNNI | AVX512 if flags is None else (VNNI | AVX512) & frozenset(flags)
    return found - WITHOUT.get(os.environ.get(HELD, ""), frozenset())
