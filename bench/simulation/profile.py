"""One replica as it was measured: what `python -m bench replica` writes, and the simulation is fed with."""

import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = ("condition_seconds", "render_seconds", "front_seconds")
BOUNDS = ("max_rows", "max_tokens", "max_jobs", "calls")

AGAIN = "; `python -m bench replica` measures it anew"


class ProfileError(ValueError):
    """What is wrong with a profile, in one line."""


@dataclass(frozen=True)
class Profile:
    """Seconds of one replica, and the bounds of its batcher.

    `turns`: rows of a call, seconds of the batcher's turn with it, and of these the engine's, rising in rows; between
    them is interpolated, below the first it is as there, and above the last it goes on as between the last two. `calls`
    are under way at once, of which the engine computes one. `condition_seconds` and `render_seconds` are of one edit
    while no other is there, whose engines take one after another; `front_seconds` are an edit's in neither of these,
    nor in turns.
    """

    turns: tuple[tuple[float, float, float], ...]
    condition_seconds: float
    render_seconds: float
    front_seconds: float
    max_rows: int
    max_tokens: int
    max_jobs: int
    calls: int

    def turn_seconds(self) -> tuple[float, ...]:
        """Of turns with 0, 1, ... max_rows rows."""
        return self._by_rows([turn for _, turn, _ in self.turns])

    def engine_seconds(self) -> tuple[float, ...]:
        """The engine's, in turns with 0, 1, ... max_rows rows."""
        return self._by_rows([engine for _, _, engine in self.turns])

    def _by_rows(self, seconds: list[float]) -> tuple[float, ...]:
        rows = [rows for rows, _, _ in self.turns]
        if len(rows) > 1 and rows[-1] < self.max_rows:
            slope = (seconds[-1] - seconds[-2]) / (rows[-1] - rows[-2])
            seconds.append(seconds[-1] + max(0.0, slope) * (self.max_rows - rows[-1]))
            rows.append(float(self.max_rows))
        return tuple(float(one) for one in np.interp(range(self.max_rows + 1), rows, seconds))


def read(file: Path) -> Profile:
    """Raises ProfileError."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ProfileError(f"{file} is no profile that `python -m bench replica` wrote: {error}") from None
    profile = found.get("profile") if isinstance(found, dict) else None
    if not isinstance(profile, dict):
        raise ProfileError(f"{file} has no `profile`: write it with `python -m bench replica`")
    try:
        return of(profile)
    except ProfileError as error:
        raise ProfileError(f"{file}: {error}") from None


def of(profile: dict[str, Any]) -> Profile:
    """A profile of the values in JSON. Raises ProfileError."""
    for name in SECONDS:
        if not _at_least(profile.get(name), 0):
            raise ProfileError(f"{name} must be a number of seconds, and is {profile.get(name)!r}")
    for name in BOUNDS:
        if not isinstance(profile.get(name), int) or not _at_least(profile[name], 1):
            raise ProfileError(f"{name} must be a whole number from 1, and is {profile.get(name)!r}{AGAIN}")
    turns = profile.get("turns")
    listed = isinstance(turns, list) and all(isinstance(one, list) and len(one) == 3 for one in turns)
    if not turns or not listed or not all(_at_least(value, 1e-6) for one in turns for value in one):
        raise ProfileError(
            f"turns must be lists of rows, seconds and the engine's seconds, all above 0: {turns!r}{AGAIN}"
        )
    if any(engine > turn for _, turn, engine in turns):
        raise ProfileError(f"turns must take no less than their engine does, and is {turns!r}")
    if any(after[0] <= before[0] for before, after in itertools.pairwise(turns)):
        raise ProfileError(f"turns must rise in rows, and is {turns!r}")
    numbers = {name: profile[name] for name in (*SECONDS, *BOUNDS)}
    return Profile(tuple((float(rows), float(turn), float(engine)) for rows, turn, engine in turns), **numbers)


def _at_least(value: Any, least: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= least
