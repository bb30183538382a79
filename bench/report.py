"""What a bench leaves behind: its metrics as JSON, with the machine they are of and the command that made them."""

import argparse
import json
import os
import platform
import re
import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.setups import BUILD

FEATURES = (
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
)
"""Instructions of a processor that engines' speed depends on, as Linux names them."""
PACKAGES = ("torch", "diffusers", "openvino", "nvidia-pytriton")


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flag that every bench has. SIGTERM stops as Ctrl-C does, so that servers are stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--results", type=Path, default=BUILD / "results", help="where metrics and plot are written")
    return made


def until_interrupted(measure: Callable[[], object]) -> int:
    """Measures, printing as it goes. Returns the exit code: 0, or 130 where Ctrl-C ends it before."""
    try:
        measure()
    except KeyboardInterrupt:
        print("interrupted: what is printed was measured", file=sys.stderr)
        return 130
    return 0


def machine() -> dict[str, Any]:
    """Processor or GPU, cores, memory and versions."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "features": [name for name in FEATURES if name in flags],
        "bf16_instructions": "avx512_bf16" in flags or "amx_bf16" in flags,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "gpu": gpu(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def processor() -> str:
    """The processor in a line, with what its speed depends on: ratios differ between processors."""
    found = machine()
    features = " ".join(found["features"]) or f"none of {' '.join(FEATURES)}"
    return f"{found['processor']}, {found['cores']} cores: {features}"


def gpu() -> str | None:
    """The GPU, where there is one."""
    from backends.gpu import find_gpu  # noqa: PLC0415

    found = find_gpu()
    return str(found) if found else None


def save(folder: Path, name: str, metrics: dict[str, Any]) -> None:
    """Writes `NAME.json` and draws `NAME.png` from it. What comes before a dash in the name says how."""
    from bench import plots  # noqa: PLC0415 - imports matplotlib

    data = write(folder / f"{name}.json", metrics)
    plots.DRAW[name.partition("-")[0]](data, folder / f"{name}.png")
    print(f"written: {folder / name}.png")


def write(file: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Writes and returns them, with the command and the machine."""
    file.parent.mkdir(parents=True, exist_ok=True)
    command = re.sub(r" --results[ =]\S+", "", " ".join(["python -m", *sys.argv]))
    data = {"command": command, "machine": machine(), **metrics}
    file.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    print(f"written: {file}")
    return data


def spread(values: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """Median, and in brackets the least and the largest."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f} to {most:.{digits}f}){unit}"
