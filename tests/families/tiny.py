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
VARIANTS = {"cosxl_edit": "sdxl_instruct_pix2pix"}
"""Kits that are no family: each named as the `--option` that makes it one of its family's kind."""
LIBRARIES = ("diffusers", "torch", "transformers")


def family(kit: str) -> str:
    """The family that a kit is of; most bear its name."""
    return VARIANTS.get(kit, kit)


def module(kit: str) -> ModuleType:
    """`tests.families.<kit>.tiny`, which CONTRIBUTING.md says what is in."""
    return importlib.import_module(f"tests.families.{kit}.tiny")


def checkpoint(kit: str) -> Path:
    """The kit's tiny checkpoint. Tests leave it as it is."""
    digest = hashlib.sha256("".join(version(name) for name in LIBRARIES).encode())
    folders = [Path(__file__).with_name(name) for name in dict.fromkeys((kit, family(kit)))]
    for file in (
        Path(__file__).with_name("small.py"),
        *(file for each in folders for file in sorted(each.glob("*.py"))),
    ):
        digest.update(file.read_bytes())
    folder = KEPT / f"{kit}-{digest.hexdigest()[:12]}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock, warnings.catch_warnings():
        fcntl.flock(lock, fcntl.LOCK_EX)
        warnings.simplefilter("ignore")
        if not folder.exists():
            for old in KEPT.glob(f"{kit}-*"):
                shutil.rmtree(old)
            unfinished = KEPT / f"unfinished-{kit}"
            shutil.rmtree(unfinished, ignore_errors=True)
            module(kit).build(unfinished)
            unfinished.rename(folder)
    return folder
