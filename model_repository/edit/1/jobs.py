"""What the batcher is handed and what it reports: a job, the ways it can end, the metrics.

Knows plans and nothing of how they are batched.
"""

import itertools
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import Protocol

from families.errors import EDIT_TOO_LARGE, InvalidEditError
from families.interface import Plan, Step, Tensors
from rows import Part


class QueueFullError(Exception):
    """No more edits are taken in."""


class CancelledError(Exception):
    """The caller is gone."""


class StoppingError(Exception):
    """The server stops: another one, or this one once it is back, can do the edit."""


class ExpiredError(Exception):
    """The edit's time was over before it was done."""


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

    def call(self, rows: int, edits: int, seconds: float) -> None:
        """One denoiser call has returned."""

    def turn(self, seconds: float) -> None:
        """One turn, its denoiser call included, has ended."""

    def stage(self, name: str, seconds: float) -> None:
        """One edit has spent this long in one of STAGES."""

    def left(self, outcome: str) -> None:
        """One edit has left, as one of OUTCOMES, `done` or `failed`."""

    def publish(self) -> None:
        """What was reported so far is to be seen. From another thread, beside the others."""


@dataclass(eq=False)
class Job:
    """One edit on its way. `prepare`, `finish` and `failed` run on worker threads, `cancelled` is asked beside turns.

    `prepare` makes its plan, `finish` answers with what the loop returned. When one of them, the loop or a call raises,
    or the job is cancelled or expires, `failed` is called in its place. `deadline`: seconds on the batcher's clock.
    `prepare` is dropped once it has made the plan.
    """

    prepare: Callable[[], Plan]
    finish: Callable[[Tensors], None]
    failed: Callable[[Exception], None]
    cancelled: Callable[[], bool] = lambda: False
    deadline: float = float("inf")
    begun: bool = field(default=False, init=False)
    gone: bool = field(default=False, init=False)
    """Whether its caller was found to be gone."""
    since: float = field(default=0.0, init=False)
    """When its present stage began, on the batcher's clock."""
    plan: Plan = field(init=False)
    pending: Step = field(init=False)
    """Its next call."""
    rows: int = field(default=0, init=False)
    """Of each call."""
    group: Hashable = field(default=None, init=False)
    """Jobs of equal groups may share a call: the plan's key, and the shapes of all inputs but those that are padded."""

    number: int = field(default_factory=itertools.count().__next__, init=False)
    """Tells jobs apart for as long as the process runs."""

    def planned(self, plan: Plan, padded: Collection[str]) -> None:
        """Takes its plan, and runs it to its first call. Raises whatever the loop raises."""
        self.plan, self.pending = plan, next(plan.loop)
        inputs = {**plan.constant, **self.pending.inputs}
        self.rows = len(next(iter(inputs.values())))
        shapes = {name: () if name in padded else array.shape[1:] for name, array in inputs.items()}
        self.group = (plan.key, *sorted((name, array.dtype.str, shapes[name]) for name, array in inputs.items()))

    def require_wanted(self, now: float, gone: bool) -> None:
        """Raises ExpiredError, or CancelledError where its caller is gone."""
        if now > self.deadline:
            raise ExpiredError("the edit's deadline has passed")
        if gone:
            raise CancelledError("the caller is gone")

    def require_fitting(self, max_rows: int, max_tokens: int) -> None:
        """An edit that no call can hold is its caller's fault, and told before it waits for one."""
        tokens = self.rows * self.plan.tokens
        if self.rows > max_rows or tokens > max_tokens:
            needs, most = f"{self.rows} rows and {tokens} tokens", f"{max_rows} rows and {max_tokens} tokens"
            raise InvalidEditError(EDIT_TOO_LARGE, f"the edit needs {needs} a call, and a call holds {most}")

    def part(self) -> Part:
        """Its rows of the next call."""
        return Part(self.number, self.group, self.rows, dict(self.plan.constant), dict(self.pending.inputs))
