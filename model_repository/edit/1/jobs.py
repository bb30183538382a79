"""What the batcher is handed and what it reports: a job, the ways it can end, the metrics.

Knows plans and nothing of how they are batched.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

from families.interface import Plan, Step, Tensors


class QueueFullError(Exception):
    """No more edits are taken in."""


class CancelledError(Exception):
    """The caller is gone, or the batcher stops."""


class ExpiredError(Exception):
    """The edit's time was over before it was done."""


OUTCOMES = {QueueFullError: "rejected", CancelledError: "cancelled", ExpiredError: "expired"}
"""What an error is counted as; any other is `failed`, none is `done`."""


STAGES = ("condition", "queue", "denoise", "render")
"""What an edit goes through; `queue` is from its plan to its first call."""


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
    """Jobs of equal groups may share a call: the plan's key, and the shapes of all inputs."""

    def planned(self, plan: Plan) -> None:
        """Takes its plan, and runs it to its first call. Raises whatever the loop raises."""
        self.plan, self.pending = plan, next(plan.loop)
        inputs = {**plan.constant, **self.pending.inputs}
        self.rows = len(next(iter(inputs.values())))
        self.group = (plan.key, *sorted((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items()))
