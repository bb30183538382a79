"""What an engine was made from, as one short digest: equal digests mean that building again would give the same."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from families.tensors import Component

LIBRARIES = ("diffusers", "numpy", "onnx", "onnxscript", "torch", "transformers")
ROOT = Path(__file__).resolve().parents[1]
DIGITS = 16


def of_component(
    component: Component,
    family: str,
    files: Iterable[Path],
    engine: Mapping[str, str],
    precision: str,
    *,
    adapters: Sequence[str] = (),
) -> str:
    """Over the component's part of the checkpoint, its table, the engine's versions, and the code that builds it.

    `adapters` stand for the contents of its bank, where it has one.
    """
    code = [ROOT / "export" / name for name in ("build.py", "check.py", "graph.py", "triton_config.py")]
    code += (ROOT / "export" / "engines").glob("*.py")
    if adapters:
        code += [ROOT / "export" / "bank.py", ROOT / "families" / family / "lora.py"]
    code += [ROOT / "families" / "tensors.py", ROOT / "families" / family / "components.py"]
    settings = {
        "component": asdict(component),
        "precision": precision,
        "engine": dict(engine),
        "adapters": list(adapters),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    return of_files([*sorted(files), *sorted(code)], settings)


def of_files(files: Iterable[Path], settings: Mapping[str, object]) -> str:
    """Over the files' names and bytes, in the order given, and the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in files:
        with file.open("rb") as stream:
            digest.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:DIGITS]
