"""What the batcher is handed and what it reports: requests and their jobs, the ways they can end, the metrics.

Knows plans and nothing of how they are batched.
"""

import itertools
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from families.errors import EDIT_TOO_LARGE, InvalidEditError
from families.interface import Array, Plan, Step, Tensors
from families.step_cache import constant_of
from rows import Part


class QueueFullError(Exception):
    """No more edits are taken in."""


class CancelledError(Exception):
    """The caller is gone."""


class StoppingError(Exception):
    """The server stops: another one, or this one once it is back, can do the edit."""


class ExpiredError(Exception):
    """The edit's time was over before it was done."""


class EndedError(Exception):
    """The request has ended by another of its jobs."""


OUTCOMES: dict[type[Exception], str] = {
    QueueFullError: "rejected",
    CancelledError: "cancelled",
    ExpiredError: "expired",
    StoppingError: "stopped",
    InvalidEditError: "refused",
}
"""What an error is counted as; any other is `failed`, none is `done`."""


STAGES = ("condition", "queue", "denoise", "render")
"""What an edit goes through; `queue` is from its plan to its first call."""


class Intake(Protocol):
    """Whether edits are taken in; called by one thread at a time."""

    def enter(self) -> None:
        """An edit is coming in. Raises StoppingError."""

    def leave(self) -> None:
        """No edit is in flight any more."""


class Metrics(Protocol):
    """What the batcher reports; but for `publish`, never called by two threads at once."""

    def in_flight(self, active: int, waiting: int) -> None:
        """Edits that have begun to be denoised, and edits that have not, now."""

    def call(self, rows: int, edits: int, began: float, ended: float) -> None:
        """One denoiser call has returned. Calls may overlap; when they begin and end is on the batcher's clock."""

    def turn(self, began: float, ended: float) -> None:
        """One turn, its denoiser call included, has ended. Turns may overlap."""

    def stage(self, name: str, seconds: float) -> None:
        """One edit has spent this long in one of STAGES."""

    def left(self, outcome: str, edits: int = 1) -> None:
        """So many edits have left, as one of OUTCOMES, `done` or `failed`."""

    def publish(self) -> None:
        """What was reported so far is to be seen. From another thread, beside the others."""


class Reports(Protocol):
    """What is told of a job while it is denoised."""

    tell_preview: Callable[[int, Tensors], None]
    """Takes the steps made and a preview, on a worker thread."""

    def note(self, step: int, steps: int, preview: Callable[[], Tensors] | None) -> None:
        """So many of all steps are made; on the batcher's thread. `preview`: where there is time for one."""


@dataclass(eq=False)
class Request:
    """What the jobs of one caller have in common. When one of them fails, all end.

    `prepare` makes a plan for each job, on a worker thread, and is dropped once it has; `conditioned` is then told
    the first, before any of their steps. When `prepare`, a loop, a call or an answer raises, or the caller is
    gone, or `deadline` (seconds on the batcher's clock) passes, `failed` is called once, in the place of what `finish`
    of a job would have answered. `low`: to be computed in what others leave free.
    """

    prepare: Callable[[], Sequence[Plan]]
    failed: Callable[[Exception], None]
    cancelled: Callable[[], bool] = lambda: False
    deadline: float = float("inf")
    low: bool = False
    conditioned: Callable[[Plan], None] = lambda _plan: None
    gone: bool = field(default=False, init=False)
    """Whether its caller was found to be gone."""
    outcome: str = field(default="", init=False)
    """What the error is counted as that has ended it, if one has."""

    def require_wanted(self, now: float, gone: bool) -> None:
        """Raises what `unwanted` returns."""
        error = self.unwanted(now, gone)
        if error is not None:
            raise error

    def unwanted(self, now: float, gone: bool) -> Exception | None:
        """EndedError, ExpiredError, CancelledError where its caller is gone, or None."""
        if self.outcome:
            return EndedError("another picture of the same request could not be made")
        if now > self.deadline:
            return ExpiredError("the edit's deadline has passed")
        return CancelledError("the caller is gone") if gone else None


@dataclass(eq=False)
class Job:
    """One picture on its way. `finish` answers with what its loop returned and how many steps were foretold, on a
    worker thread. It does not know the job, all of which so goes when the job does, not when Python looks for cycles.
    """

    request: Request
    finish: Callable[[Tensors, int], None]
    reports: Reports | None = None
    begun: bool = field(default=False, init=False)
    steps: int = field(default=0, init=False)
    """Made so far."""
    foretold: int = field(default=0, init=False)
    """Steps that had no call."""
    since: float = field(default=0.0, init=False)
    """When its present stage began, on the batcher's clock."""
    plan: Plan = field(init=False)
    pending: Step = field(init=False)
    """Its next call."""
    rows: int = field(default=0, init=False)
    """Of its next call; of none more than of its first."""
    lengths: Mapping[str, int] = field(default_factory=dict, init=False)
    """Of the axes that may be padded: its row's tokens."""
    kind: Hashable = field(default=None, init=False)
    """Jobs of equal kinds may share a call: types and shapes of all inputs are equal, but for axes that are padded."""
    group: Hashable = field(default=None, init=False)
    """Those of equal groups may do so with no padding of tokens: the kind, and the lengths."""

    number: int = field(default_factory=itertools.count().__next__, init=False)
    """Tells jobs apart for as long as the process runs."""

    def planned(self, plan: Plan, padded: Collection[str]) -> None:
        """Takes its plan, and runs it to its first call. Raises whatever the loop raises."""
        self.plan, self.pending = plan, next(plan.loop)
        inputs = {**plan.constant, **self.pending.inputs}
        self.rows = len(next(iter(inputs.values())))
        self.lengths = {axis: inputs[names[0]].shape[1] for axis, names in plan.padded.items()}
        uneven = {*padded, *(name for names in plan.padded.values() for name in names)}
        shapes = {name: array.shape[2 if name in uneven else 1 :] for name, array in inputs.items()}
        self.kind = tuple(sorted((name, array.dtype.str, shapes[name]) for name, array in inputs.items()))
        self.group = (self.kind, *sorted(self.lengths.items()))

    def require_fitting(self, max_rows: int, max_tokens: int) -> None:
        """An edit that no call can hold is its caller's fault, and told before it waits for one."""
        tokens = self.rows * self.plan.tokens
        if self.rows > max_rows or tokens > max_tokens:
            needs, most = f"{self.rows} rows and {tokens} tokens", f"{max_rows} rows and {max_tokens} tokens"
            raise InvalidEditError(EDIT_TOO_LARGE, f"the edit needs {needs} a call, and a call holds {most}")

    def advance(self, prediction: Array) -> bool:
        """Goes a step on. Returns whether there is a call of the next one. Raises whatever the loop raises."""
        self.pending = self.plan.loop.send(prediction)
        self.steps += 1
        if not self.pending.inputs:
            self.foretold += 1
        else:
            self.rows = len(next(iter(self.pending.inputs.values())))
        return bool(self.pending.inputs)

    def part(self) -> Part:
        """Its rows of the next call."""
        constant = constant_of(self.plan, self.pending)
        return Part(self.number, self.group, self.rows, constant, dict(self.pending.inputs))
