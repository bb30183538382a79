"""Whose turn it is: which jobs share the batcher's next call. Knows jobs and groups, and not how they are run."""

from collections.abc import Hashable, Mapping, Sequence

from jobs import Job

LOW_EVERY = 8
"""One call in so many is led by a job of low priority, where there is one: so none starves."""


class Turns:
    """Chooses jobs for calls of at most `max_rows` rows and `max_tokens` rows x tokens."""

    def __init__(self, max_rows: int, max_tokens: int) -> None:
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self._turns, self._passed = 0, 0
        # Whether low priority led -> group -> turn that last served it so. Apart, for otherwise those of normal
        # priority, who take turns too, may just have served the same one of two groups whenever low priority leads.
        self._served: dict[bool, dict[Hashable, int]] = {False: {}, True: {}}

    def choose(self, ready: Sequence[Job]) -> tuple[Job, ...]:
        """Of `ready`, oldest first: the jobs of one group, as many as fit, those that lead first.

        Those of normal priority lead, or where there are none, and in every eighth call, those of low priority. The
        group is that of the leading jobs that has waited longest since they last led its call.
        """
        groups = {job.group for job in ready}
        for low, served in self._served.items():
            self._served[low] = {group: turn for group, turn in served.items() if group in groups}
        if not ready:
            return ()
        leading, others = self._parted(ready)
        served = self._served[leading[0].request.low]
        chosen = _group(leading, served)
        self._turns += 1
        served[chosen] = self._turns
        return self._fitting([job for job in (*leading, *others) if job.group == chosen])

    def _parted(self, ready: Sequence[Job]) -> tuple[list[Job], list[Job]]:
        """Those that lead this call, and the rest."""
        normal, low = [job for job in ready if not job.request.low], [job for job in ready if job.request.low]
        if not low or not normal:
            self._passed = 0
            return normal or low, []
        self._passed = (self._passed + 1) % LOW_EVERY
        return (normal, low) if self._passed else (low, normal)

    def _fitting(self, jobs: Sequence[Job]) -> tuple[Job, ...]:
        fitting, rows, tokens = [], self._max_rows, self._max_tokens
        for job in jobs:
            if job.rows <= rows and job.rows * job.plan.tokens <= tokens:
                fitting.append(job)
                rows -= job.rows
                tokens -= job.rows * job.plan.tokens
        return tuple(fitting)


def _group(leading: Sequence[Job], served: Mapping[Hashable, int]) -> Hashable:
    """That was served longest ago, of several such that of the oldest job."""
    oldest: dict[Hashable, int] = {}
    for age, job in enumerate(leading):
        oldest.setdefault(job.group, age)
    return min(oldest, key=lambda group: (served.get(group, 0), oldest[group]))
