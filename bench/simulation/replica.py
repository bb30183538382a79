"""One replica: places, encoders, the batcher's turns, the decoder.

What shares a call is chosen by the batcher's own code. Times are the profile's. Not modelled: what engines on one GPU
take from one another, callers who leave, low priority, previews, and that the next call is ready before one ends.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol

from bench.setups import ROOT
from bench.simulation.clock import Clock, Station
from bench.simulation.edits import Edit
from bench.simulation.profile import Profile

BATCHER = ROOT / "model_repository" / "edit_stream" / "1"


class Turns(Protocol):
    """`choosing.Turns`, whose jobs are edits here."""

    def choose(self, ready: Sequence[Edit]) -> tuple[Edit, ...]:
        """Those of `ready`, oldest first, that share the next call."""

    def done(self, jobs: Sequence[Edit]) -> None:
        """Their call and their steps have ended."""


def turns(max_rows: int, max_tokens: int) -> Turns:
    """The batcher's own choosing; its file lies on Triton's path, and not on ours."""
    if str(BATCHER) not in sys.path:
        sys.path.append(str(BATCHER))
    made: Turns = import_module("choosing").Turns(max_rows, max_tokens)
    return made


class Replica:
    """Takes edits and tells `answered` of each that is done, until it is killed.

    `busy`: seconds of turns; `rows` and `calls`: of the denoiser. `alive`: from `began` on until it was killed or has
    drained, at `ended`.
    """

    def __init__(self, clock: Clock, profile: Profile, answered: Callable[["Replica", Edit], None]) -> None:
        self._clock, self._profile, self._answered = clock, profile, answered
        self._seconds = profile.turn_seconds()
        self._turns = turns(profile.max_rows, profile.max_tokens)
        self._encoders = Station(clock, profile.condition_seconds)
        self._decoder = Station(clock, profile.render_seconds)
        self._ready: list[Edit] = []  # oldest first
        self._turning = False
        self.held: dict[Edit, None] = {}
        self.busy, self.rows, self.calls = 0.0, 0, 0
        self.alive, self.draining, self.began, self.ended = True, False, clock.now, float("inf")

    def submit(self, edit: Edit) -> bool:
        """Takes it in; False where all places are taken."""
        if len(self.held) >= self._profile.max_jobs:
            return False
        self.held[edit] = None
        edit.left = edit.plan.steps
        self._encoders.take(self._conditioned, edit)
        return True

    def kill(self) -> list[Edit]:
        """Ends at once. Returns what it held."""
        self.alive, self.ended = False, self._clock.now
        if self._turning:
            self.busy -= self._turn_ends - self._clock.now
        return list(self.held)

    def drain(self) -> None:
        """Ends once it holds nothing; its balancer sends it nothing more."""
        self.draining = True
        self._end_if_drained()

    def _conditioned(self, edit: Edit) -> None:
        self._ready.append(edit)
        if not self._turning and self.alive:
            self._turn()

    def _turn(self) -> None:
        chosen = self._turns.choose(self._ready)
        if not chosen:
            raise RuntimeError(
                f"the batcher chooses none of {len(self._ready)} edits: it has other rules than are simulated"
            )
        rows = sum(edit.rows for edit in chosen)
        seconds = self._seconds[rows]
        self._turning, self._turn_ends = True, self._clock.now + seconds
        self.busy, self.rows, self.calls = self.busy + seconds, self.rows + rows, self.calls + 1
        self._clock.after(seconds, self._turned, chosen)

    def _turned(self, chosen: Sequence[Edit]) -> None:
        self._turns.done(chosen)
        if not self.alive:
            return
        for edit in chosen:
            edit.left -= 1
            if not edit.left:
                self._ready.remove(edit)
                self._decoder.take(self._rendered, edit)
        self._turning = False
        if self._ready:
            self._turn()

    def _rendered(self, edit: Edit) -> None:
        if not self.alive:
            return
        del self.held[edit]
        self._answered(self, edit)
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self.draining and self.alive and not self.held:
            self.alive, self.ended = False, self._clock.now
