"""Which rows go into one call, though some are shorter than others, and zeros fill them up.

A call costs as much as some tokens more would: the weights are read and kernels launched whatever is computed. So edits
of another group come along where their padding, and that of those they join, costs less than the call that is saved.
Knows jobs by their kind, group, rows and lengths; not whose turn it is.
"""

from collections.abc import Hashable, Sequence

from jobs import Job

CALL_TOKENS = 256
"""What a call costs by itself, in tokens of rows: so many of padding are worth one that is saved. Measured
(docs/bench.md, "Edits of different sizes in one call"); a processor's is less, and so is what it is there to save."""


class Call:
    """The jobs of one call, as it is filled: of one kind, at most `max_rows` rows and `max_tokens` tokens, padding
    counted."""

    def __init__(self, max_rows: int, max_tokens: int) -> None:
        self.jobs: list[Job] = []
        self.groups: set[Hashable] = set()
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self._lengths: dict[str, int] = {}

    def take(self, jobs: Sequence[Job]) -> bool:
        """Takes all of these jobs of one group in, or, where they do not fit, none."""
        if not self.fits(jobs):
            return False
        self._lengths = self._with(jobs[0])
        self.jobs.extend(jobs)
        self.groups.add(jobs[0].group)
        return True

    def fits(self, jobs: Sequence[Job]) -> bool:
        """Whether these jobs, of one group, may come along with what there is."""
        together, first = [*self.jobs, *jobs], jobs[0]
        if together[0].kind != first.kind or sum(job.rows for job in together) > self._max_rows:
            return False
        longest = sum(self._with(first).values())
        padding = sum(job.rows * (longest - sum(job.lengths.values())) for job in together)
        tokens = padding + sum(job.rows * job.plan.tokens for job in together)
        saved = len(self.groups | {first.group}) - 1
        return tokens <= self._max_tokens and padding <= saved * CALL_TOKENS

    def _with(self, job: Job) -> dict[str, int]:
        """The lengths of all rows, where the job's are among them."""
        return {axis: max(length, self._lengths.get(axis, 0)) for axis, length in job.lengths.items()}
