"""Rivals with an environment of their own, which `make rivals` makes: which are there, and what each can edit with."""

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench import optimum_intel, sdcpp
from bench.edits import Edit, Pixels
from bench.setups import ROOT

FOLDER = ROOT / "build" / "rivals"
READY = ".ready"
"""What `make` leaves in an environment that is complete."""


@dataclass(frozen=True)
class Rival:
    """One of them. `serving` takes its environment and a checkpoint, and yields what makes one edit.

    `otherwise`: why it takes no checkpoints but those of `setups`. `own_noise`: whether its pictures are other ones.
    """

    name: str
    folder: str
    setups: Collection[str]
    otherwise: str
    own_noise: bool
    serving: Callable[[Path, Path], AbstractContextManager[Callable[[Edit], Pixels]]]


RIVALS = (
    Rival(
        "stable-diffusion.cpp",
        "stable-diffusion-cpp",
        {"full"},
        "it reads InstructPix2Pix of full width alone, and klein with a text encoder of full width",
        True,
        sdcpp.serving,
    ),
    Rival(
        "optimum-intel",
        "optimum-intel",
        {"klein-blocks"},
        "it has no pipeline of InstructPix2Pix",
        False,
        optimum_intel.serving,
    ),
)

OWN_NOISE = frozenset(rival.name for rival in RIVALS if rival.own_noise)


def told(rivals: Iterable[Rival], folder: Path, setup: str) -> tuple[list[Rival], list[str]]:
    """Those of `rivals` that can take part, and a line for each reason why others do not."""
    rivals = list(rivals)
    missing = [rival.name for rival in rivals if not (folder / rival.folder / READY).exists()]
    fit = [rival for rival in rivals if rival.name not in missing and setup in rival.setups]
    unfit = [rival for rival in rivals if rival.name not in missing and setup not in rival.setups]
    lines = [f"left out: {rival.name}: {rival.otherwise}" for rival in unfit]
    if missing:
        names = ", ".join(missing)
        lines.insert(0, f"left out, since not installed in {folder}: {names}; `make rivals` installs them")
    return fit, lines
