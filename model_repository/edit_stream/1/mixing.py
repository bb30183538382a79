"""Which rows go into one call, though some are shorter than others, and zeros fill them up.

A call costs as much as some tokens more would: the weights are read and kernels launched whatever is computed. So edits
of another group come along where their padding, and that of those they join, costs less than the call that is saved.
Knows jobs by their kind, group, rows and lengths; not whose turn it is.
"""

from collections.abc import Hashable, Sequence

from jobs import Job

CALL_TOKENS = 128
"""What a call costs by itself, in tokens: padding of so many is worth a call that is saved. Of an H100 it was 50 to
250, about 100 in the middle (docs/bench.md); of two texts of a guided edit it is a step of their lengths."""


class Call:
    """The jobs of one call, as it is filled: of one kind, at most `max_rows` rows and `max_tokens` tokens, padding
    counted."""

    def __init__(self, max_rows: int, max_tokens: int) -> None:
        self.jobs: list[Job] = []
        self.groups: set[Hashable] = set()
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self._lengths: dict[str, int] = {}
        self._sums = 0, 0, 0

    def take(self, jobs: Sequence[Job]) -> bool:
        """Takes all of these jobs of one group in, or, where they do not fit, none."""
        sums = self._summed(jobs)
        if not self._fit(jobs, sums):
            return False
        self._lengths, self._sums = self._with(jobs[0]), sums
        self.jobs.extend(jobs)
        self.groups.add(jobs[0].group)
        return True

    def fits(self, jobs: Sequence[Job]) -> bool:
        """Whether these jobs, of one group, may come along with what there is."""
        return self._fit(jobs, self._summed(jobs))

    def _fit(self, jobs: Sequence[Job], sums: tuple[int, int, int]) -> bool:
        rows, tokens, unpadded = sums
        if rows > self._max_rows or tokens > self._max_tokens:
            return False
        group = jobs[0].group
        if not self.jobs or (len(self.groups) == 1 and group in self.groups):
            return True  # nothing is padded
        if self.jobs[0].kind != jobs[0].kind:
            return False
        padding = rows * sum(self._with(jobs[0]).values()) - unpadded
        saved = len(self.groups | {group}) - 1
        return tokens + padding <= self._max_tokens and padding <= saved * CALL_TOKENS

    def _summed(self, jobs: Sequence[Job]) -> tuple[int, int, int]:
        """With these jobs: rows, rows x tokens, and rows x lengths."""
        rows, tokens, unpadded = self._sums
        for job in jobs:
            rows += job.rows
            tokens += job.rows * job.plan.tokens
            unpadded += job.rows * sum(job.lengths.values())
        return rows, tokens, unpadded

    def _with(self, job: Job) -> dict[str, int]:
        """The lengths of all rows, where the job's are among them."""
        return {axis: max(length, self._lengths.get(axis, 0)) for axis, length in job.lengths.items()}
