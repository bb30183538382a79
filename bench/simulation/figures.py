"""What a run comes to: percentiles, utilisation, what was refused, lost and sent again."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.simulation.fleet import Seen

OUTCOMES = ("answered", "refused", "lost")
WARM_UP = 0.1
"""Of the edits, the first to arrive, which find an empty fleet: left out of percentiles."""


@dataclass(frozen=True)
class Figures:
    """Of one run. Seconds are from an edit's arrival to its answer; NaN where none was answered.

    `pods`: their mean number until the last edit arrives, with those that start.
    """

    mean: float
    p50: float
    p95: float
    p99: float
    utilisation: float
    pods: float
    rows_a_call: float
    edits: int
    answered: int
    refused: int
    lost: int
    resent: int
    wasted_steps: int


def percentile(ascending: Sequence[float], hundredths: int) -> float:
    """The smallest value that so many of 100 do not exceed; NaN of none."""
    return ascending[max(0, math.ceil(len(ascending) * hundredths / 100) - 1)] if ascending else math.nan


def figures(seen: Seen, warm_up: float = WARM_UP) -> Figures:
    """Of a run that has ended."""
    counted = seen.edits[int(len(seen.edits) * warm_up) :]
    seconds = sorted(edit.seconds for edit in counted if edit.outcome == "answered")
    calls = sum(replica.calls for replica in seen.replicas)
    outcomes = {outcome: sum(edit.outcome == outcome for edit in seen.edits) for outcome in OUTCOMES}
    return Figures(
        mean=sum(seconds) / len(seconds) if seconds else math.nan,
        p50=percentile(seconds, 50),
        p95=percentile(seconds, 95),
        p99=percentile(seconds, 99),
        utilisation=seen.utilisation,
        pods=statistics.mean(sample.pods for sample in seen.samples if sample.at <= seen.arrivals_end),
        rows_a_call=sum(replica.rows for replica in seen.replicas) / max(1, calls),
        edits=len(seen.edits),
        **outcomes,
        resent=seen.resent,
        wasted_steps=seen.wasted_steps,
    )
