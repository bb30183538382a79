"""What an engine was made from, as one short digest: equal digests mean that building again would give the same."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from families import PIPELINES
from families.interface import Component

LIBRARIES = ("diffusers", "numpy", "onnx", "onnxscript", "torch", "transformers")
ROOT = Path(__file__).resolve().parents[2]
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

    The code is whole folders, so that no new file can be forgotten. `adapters` stand for the contents of its bank.
    """
    settings = {
        "component": asdict(component),
        "precision": precision,
        "engine": dict(engine),
        "adapters": list(adapters),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    code = [*_sources(ROOT / "export" / "component"), *_sources(ROOT / "export" / "engines"), *of_family(family)]
    return of_files([*sorted(files), *code], settings)


def of_family(family: str) -> list[Path]:
    """The sources of a family: all of `families/` but the folders of others."""
    others = {ROOT / "families" / name for name in PIPELINES.values() if name != family}
    return [file for file in _sources(ROOT / "families") if not others & set(file.parents)]


def of_files(files: Iterable[Path], settings: Mapping[str, object]) -> str:
    """Over the files' names and bytes, in the order given, and the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in files:
        with file.open("rb") as stream:
            digest.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:DIGITS]


def _sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))
