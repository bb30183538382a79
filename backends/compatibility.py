"""Whether a repository's engines were made for this machine: asked before Triton starts, which would say it badly.

``python -m backends.compatibility REPOSITORY --served tensorrt,openvino`` ends with exit code 2, and one line for each
reason, when they were not. Reads what export wrote beside each engine; needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.gpu import Gpu, find_gpu
from backends.processor import VNNI, features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORD = "component.json"
PRODUCTS = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT for RTX"}
MODULES = {"tensorrt": "tensorrt_bindings", "tensorrt_rtx": "tensorrt_rtx"}
"""Python module of each. NVIDIA's image has TensorRT's libraries, to which bindings alone are added."""
SAFE = 63
"""Largest number of an int8 weight two of whose products with uint8 add up in 16 bits, as they do without VNNI."""
HINT = "export again on this machine"
CHANNEL, CHANNEL_VERSION = Path("edit_stream", "1", "channel.py"), 2
"""Where a repository has what speaks to `backends.channel`, and the version of what is said."""


def installed_version(kind: str) -> str | None:
    """Version of the module of ``tensorrt`` or ``tensorrt_rtx``; None where it is missing or cannot be loaded."""
    try:
        return str(importlib.import_module(MODULES[kind]).__version__)
    except (ImportError, OSError):
        return None


def incompatibilities(
    repository: Path,
    served: tuple[str, ...],
    gpu: Callable[[], Gpu | None] = find_gpu,
    version: Callable[[str], str | None] = installed_version,
) -> list[str]:
    """One line for each reason why engines of ``repository`` cannot be served here, naming both sides.

    Args:
        repository: the model repository.
        served: engine kinds that this server has a backend for.
        gpu: finds this machine's GPU.
        version: finds the installed version of an engine kind's module.
    """
    found: dict[str, list[str]] = {}
    if (repository / "edit" / ".tritouch").exists() and not _speaks(repository / CHANNEL):
        found["exported by an earlier version"] = [CHANNEL.parts[0]]
    for file in sorted(repository.glob(f"*/{RECORD}")):
        try:
            record = _read(file)
        except (OSError, ValueError):
            found[f"{file} cannot be read"] = [file.parent.name]
            continue
        for reason in _reasons(record, served, gpu, version):
            found.setdefault(reason, []).append(file.parent.name)
    return [f"{', '.join(names)}: {reason}: {HINT}" for reason, names in found.items()]


def _speaks(channel: Path) -> bool:
    """Whether a repository's `edit_stream` says to backends what those here understand."""
    try:
        return f"\nVERSION = {CHANNEL_VERSION}\n" in channel.read_text("utf-8")
    except OSError:
        return False


def _read(file: Path) -> dict[str, Any]:
    """What export wrote beside one engine. Raises OSError, or ValueError for a file that is damaged."""
    record = json.loads(file.read_text("utf-8"))
    if not isinstance(record, dict) or "engine" not in record or not isinstance(record.get("versions"), dict):
        raise ValueError("not a record of an engine")
    return record


def _reasons(
    record: dict[str, Any],
    served: tuple[str, ...],
    gpu: Callable[[], Gpu | None],
    version: Callable[[str], str | None],
) -> Iterator[str]:
    kind, made = record["engine"], record["versions"]
    scheme = record.get("scheme") or {}
    if kind not in served:
        yield f"made for {kind}, and this server serves {' and '.join(served)}"
    elif kind == "openvino" and scheme.get("activations") and scheme["largest"] > SAFE and not features() & VNNI:
        yield "in int8 for a processor with VNNI, without which its sums overflow, and here is none"
    elif kind in PRODUCTS:
        product, here, machine = PRODUCTS[kind], version(kind), gpu()
        if here != made[kind]:
            yield f"compiled by {product} {made[kind]}, and here is {here or 'none'}"
        if machine is None or machine.compute_capability not in made["compute_capability"].split():
            made_for = f"compiled for compute capability {made['compute_capability'].replace(' ', ', ')}"
            yield f"{made_for}, and here is {machine or 'no NVIDIA GPU'}"
        elif made.get("gpu", machine.name) != machine.name:
            yield f"compiled on {made['gpu']}, and here is {machine}"


def main(arguments: list[str] | None = None, gpu: Callable[[], Gpu | None] = find_gpu) -> int:
    """Prints the reasons why `gpu` cannot serve. Returns 2 when there are any, else 0."""
    what = "Hold a repository's engines to this machine."
    parser = argparse.ArgumentParser(prog="backends.compatibility", description=what)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--served", required=True, help="engine kinds that the server has, separated by commas")
    options = parser.parse_args(arguments)
    reasons = incompatibilities(options.repository, tuple(options.served.split(",")), gpu)
    for reason in reasons:
        sys.stderr.write(f"engines: {reason}\n")
    return 2 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
