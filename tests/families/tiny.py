"""Tiny checkpoints of all families, each built once and kept between runs for as long as what it is made from stays."""

import fcntl
import hashlib
import importlib
import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "tiny"
LIBRARIES = ("diffusers", "torch", "transformers")


def module(family: str) -> ModuleType:
    """`tests.families.<family>.tiny`, which CONTRIBUTING.md says what is in."""
    return importlib.import_module(f"tests.families.{family}.tiny")


def checkpoint(family: str) -> Path:
    """The family's tiny checkpoint. Tests leave it as it is."""
    digest = hashlib.sha256("".join(version(name) for name in LIBRARIES).encode())
    for file in (Path(__file__).with_name("small.py"), *sorted(Path(__file__).with_name(family).glob("*.py"))):
        digest.update(file.read_bytes())
    folder = KEPT / f"{family}-{digest.hexdigest()[:12]}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock, warnings.catch_warnings():
        fcntl.flock(lock, fcntl.LOCK_EX)
        warnings.simplefilter("ignore")
        if not folder.exists():
            for old in KEPT.glob(f"{family}-*"):
                shutil.rmtree(old)
            unfinished = KEPT / f"unfinished-{family}"
            shutil.rmtree(unfinished, ignore_errors=True)
            module(family).build(unfinished)
            unfinished.rename(folder)
    return folder
