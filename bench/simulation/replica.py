"""One replica: places, encoders, the batcher's turns, the decoder.

What shares a call is chosen by the batcher's own code. Several turns are under way at once, as many as the profile's
`calls`: while the engine computes one's call, the next one's is chosen and ready. Times are the profile's. Not
modelled: what engines on one GPU take from one another, callers who leave, low priority, and previews.
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

    `rows` and `calls`: of the denoiser. `alive`: from `began` on until it was killed or has drained, at `ended`.
    """

    def __init__(self, clock: Clock, profile: Profile, answered: Callable[["Replica", Edit], None]) -> None:
        self._clock, self._profile, self._answered = clock, profile, answered
        self._seconds, self._engine_seconds = profile.turn_seconds(), profile.engine_seconds()
        self._turns = turns(profile.max_rows, profile.max_tokens)
        self._encoders, self._engine, self._decoder = (Station(clock) for _ in range(3))
        self._ready: list[Edit] = []  # oldest first
        self._under_way, self._busy, self._busy_since = 0, 0.0, 0.0
        self.held: dict[Edit, None] = {}
        self.rows, self.calls = 0, 0
        self.alive, self.draining, self.began, self.ended = True, False, clock.now, float("inf")

    @property
    def busy(self) -> float:
        """Seconds until now in which a turn was under way."""
        return self._busy + (self._clock.now - self._busy_since if self._under_way and self.alive else 0.0)

    def submit(self, edit: Edit) -> bool:
        """Takes it in; False where all places are taken."""
        if len(self.held) >= self._profile.max_jobs:
            return False
        self.held[edit] = None
        edit.left = edit.plan.steps
        self._encoders.take(self._profile.condition_seconds, self._conditioned, edit)
        return True

    def kill(self) -> list[Edit]:
        """Ends at once. Returns what it held."""
        self._busy = self.busy
        self.alive, self.ended = False, self._clock.now
        return list(self.held)

    def drain(self) -> None:
        """Ends once it holds nothing; its balancer sends it nothing more."""
        self.draining = True
        self._end_if_drained()

    def _conditioned(self, edit: Edit) -> None:
        self._ready.append(edit)
        if self.alive:
            self._begin_turns()

    def _begin_turns(self) -> None:
        while self._under_way < self._profile.calls and (chosen := self._turns.choose(self._ready)):
            self._turn(chosen)
        if self._ready and not self._under_way:
            raise RuntimeError(
                f"the batcher chooses none of {len(self._ready)} edits: it has other rules than are simulated"
            )

    def _turn(self, chosen: Sequence[Edit]) -> None:
        rows = sum(edit.rows for edit in chosen)
        self.rows, self.calls = self.rows + rows, self.calls + 1
        if not self._under_way:
            self._busy_since = self._clock.now
        self._under_way += 1
        own = self._seconds[rows] - self._engine_seconds[rows]
        self._engine.take(self._engine_seconds[rows], self._clock.after, own, self._turned, chosen)

    def _turned(self, chosen: Sequence[Edit]) -> None:
        self._turns.done(chosen)
        if not self.alive:
            return
        self._under_way -= 1
        if not self._under_way:
            self._busy += self._clock.now - self._busy_since
        for edit in chosen:
            edit.left -= 1
            if not edit.left:
                self._ready.remove(edit)
                self._decoder.take(self._profile.render_seconds, self._rendered, edit)
        self._begin_turns()

    def _rendered(self, edit: Edit) -> None:
        if not self.alive:
            return
        del self.held[edit]
        self._answered(self, edit)
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self.draining and self.alive and not self.held:
            self.alive, self.ended = False, self._clock.now
