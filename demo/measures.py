"""How near an edited picture is to its true edit, and which true edit it is nearest to. Knows nothing of models."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo.edits import KINDS, Kind, Picture, true_edit


@dataclass(frozen=True)
class Outcome:
    """One edit, measured."""

    kind: Kind
    psnr: float
    """To the true edit, in dB."""
    unedited_psnr: float
    """Of the unedited picture to the true edit: how visible the edit is."""
    nearest: Kind
    """Whose true edit of the same picture is the nearest, among all of KINDS."""

    @property
    def right(self) -> bool:
        """Whether the nearest true edit is the one that was asked for."""
        return self.nearest == self.kind


def psnr(ours: Picture, reference: Picture) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1]."""
    return float(-10 * np.log10(np.mean((ours - reference) ** 2) + 1e-10))


def measure(picture: Picture, asked: Sequence[Kind], edited: Sequence[Picture]) -> list[Outcome]:
    """Measure the edits of one picture."""
    references = np.stack([true_edit(kind, picture) for kind in KINDS])  # (K, H, W, 3)
    outcomes = []
    for kind, ours in zip(asked, edited, strict=True):
        errors = ((references - ours) ** 2).mean(axis=(1, 2, 3))
        reference = references[KINDS.index(kind)]
        nearest = KINDS[int(errors.argmin())]
        outcomes.append(Outcome(kind, psnr(ours, reference), psnr(picture, reference), nearest))
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: one row for each name of kinds, and a row for all."""
    rows = ["| instruction | edits | PSNR | unedited | gain | nearest |", "| --- | --: | --: | --: | --: | --: |"]
    names = dict.fromkeys(kind.name for kind in KINDS)
    for name in [*(name for name in names if any(o.kind.name == name for o in outcomes)), "all"]:
        those = [outcome for outcome in outcomes if name in (outcome.kind.name, "all")]
        ours = np.mean([outcome.psnr for outcome in those])
        unedited = np.mean([outcome.unedited_psnr for outcome in those])
        right = np.mean([outcome.right for outcome in those])
        rows.append(
            f"| {name} | {len(those)} | {ours:.1f} | {unedited:.1f} | {ours - unedited:+.1f} | {100 * right:.0f} % |"
        )
    return "\n".join(rows)


def confusion(outcomes: Sequence[Outcome]) -> str:
    """Asked (rows) against nearest (columns); the right name with another colour, shape or place has its own column."""
    names = list(dict.fromkeys(kind.name for kind in KINDS))
    columns = [*names, "wrong border", "wrong shape"]
    counts = Counter((o.kind.name, f"wrong {o.kind.name}" if _variant(o) else o.nearest.name) for o in outcomes)
    head = " " * 16 + " ".join(f"{column.replace('wrong ', '!')[:6]:>6}" for column in columns)
    lines = [f"{name:16}" + " ".join(f"{counts[name, column] or '.':>6}" for column in columns) for name in names]
    return "\n".join([head, *lines])


def _variant(outcome: Outcome) -> bool:
    return not outcome.right and outcome.kind.name == outcome.nearest.name
