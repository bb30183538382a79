"""Whose turn it is: which jobs share the batcher's next call. Knows jobs and groups, and not how they are run."""

from collections.abc import Hashable, Mapping, Sequence

from jobs import Job

LOW_EVERY = 8
"""One call in so many is led by a job of low priority, where there is one: so none starves."""


class Turns:
    """Chooses jobs for calls of at most `max_rows` rows and `max_tokens` rows x tokens.

    A group has one call under way at most: who joins it then waits for that to end, and is in the next. Two calls of a
    part of its rows each would cost more than the engine's wait between calls.
    """

    def __init__(self, max_rows: int, max_tokens: int) -> None:
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self._turns, self._passed = 0, 0
        # Whether low priority led -> group -> turn that last served it so. Apart, for otherwise those of normal
        # priority, who take turns too, may just have served the same one of two groups whenever low priority leads.
        self._served: dict[bool, dict[Hashable, int]] = {False: {}, True: {}}
        self._under_way: set[Hashable] = set()

    def free(self, ready: Sequence[Job]) -> list[Job]:
        """Those of groups that have no call under way."""
        return [job for job in ready if job.group not in self._under_way]

    def possible(self, ready: Sequence[Job]) -> bool:
        """Whether there is one to choose."""
        return bool(self._parted(ready)[0])

    def choose(self, ready: Sequence[Job]) -> tuple[Job, ...]:
        """Of `ready`, oldest first: the jobs of one free group, as many as fit, those that lead first. `done` ends it.

        Those of normal priority lead, or where there are none, and in every eighth call, those of low priority. The
        group is that of the leading jobs that has waited longest since they last led its call.
        """
        groups = {job.group for job in ready}
        for low, served in self._served.items():
            self._served[low] = {group: turn for group, turn in served.items() if group in groups}
        leading, others = self._parted(ready)
        if not leading:
            return ()
        served = self._served[leading[0].request.low]
        chosen = _group(leading, served)
        self._turns += 1
        self._passed = (self._passed + 1) % LOW_EVERY if _mixed(ready) else 0
        served[chosen] = self._turns
        self._under_way.add(chosen)
        return self._fitting([job for job in (*leading, *others) if job.group == chosen])

    def done(self, jobs: Sequence[Job]) -> None:
        """Their call and their steps have ended."""
        self._under_way.discard(jobs[0].group)

    def _parted(self, ready: Sequence[Job]) -> tuple[list[Job], list[Job]]:
        """Those that may lead this call, and the rest that is free."""
        free = self.free(ready)
        normal, low = [job for job in free if not job.request.low], [job for job in free if job.request.low]
        if not _mixed(ready):
            return normal or low, []
        return (low, normal) if low and self._passed + 1 == LOW_EVERY else (normal, low)

    def _fitting(self, jobs: Sequence[Job]) -> tuple[Job, ...]:
        fitting, rows, tokens = [], self._max_rows, self._max_tokens
        for job in jobs:
            if job.rows <= rows and job.rows * job.plan.tokens <= tokens:
                fitting.append(job)
                rows -= job.rows
                tokens -= job.rows * job.plan.tokens
        return tuple(fitting)


def _mixed(ready: Sequence[Job]) -> bool:
    """Whether there are some of both priorities."""
    return len({job.request.low for job in ready}) > 1


def _group(leading: Sequence[Job], served: Mapping[Hashable, int]) -> Hashable:
    """That was served longest ago, of several such that of the oldest job."""
    oldest: dict[Hashable, int] = {}
    for age, job in enumerate(leading):
        oldest.setdefault(job.group, age)
    return min(oldest, key=lambda group: (served.get(group, 0), oldest[group]))
