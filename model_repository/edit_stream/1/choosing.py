"""Whose turn it is: which request is prepared next, and which jobs share the batcher's next call.

Knows jobs and groups, and not how they are run.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence

from jobs import Job, Request
from mixing import Call

LOW_EVERY = 8
"""One call in so many is led by a job of low priority, where there is one, and one request in so many that are prepared
is of low priority: so none starves."""


class Turns:
    """Chooses jobs for calls of at most `max_rows` rows and `max_tokens` rows x tokens.

    A group has one call under way at most: who joins it then waits for that to end, and is in the next. Two calls of a
    part of its rows each would cost more than the engine's wait between calls. A group that could have come along with
    a call under way waits for it to end, too, but for no other after that.
    """

    def __init__(self, max_rows: int, max_tokens: int) -> None:
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self._turns, self._passed, self._prepared = 0, 0, 0
        # Whether low priority led -> group -> turn that last served it so. Apart, for otherwise those of normal
        # priority, who take turns too, may just have served the same one of two groups whenever low priority leads.
        self._served: dict[bool, dict[Hashable, int]] = {False: {}, True: {}}
        self._under_way: list[Call] = []
        self._awaited: dict[Hashable, Call] = {}  # by group, the call that it could have come along with

    def prepared_next(self, waiting: Collection[Request]) -> Request | None:
        """Of `waiting`, oldest first: the first of normal priority, in every eighth place the first of low priority."""
        self._prepared = (self._prepared + 1) % LOW_EVERY
        return min(waiting, key=lambda request: request.low == bool(self._prepared), default=None)

    def free(self, ready: Sequence[Job]) -> list[Job]:
        """Those of groups that have no call under way."""
        taken = {group for call in self._under_way for group in call.groups}
        return [job for job in ready if job.group not in taken]

    def possible(self, ready: Sequence[Job]) -> bool:
        """Whether there is one to choose."""
        groups = _by_group(self._parted(ready)[0])
        return any(self._awaits(group, jobs) is None for group, jobs in groups.items())

    def choose(self, ready: Sequence[Job]) -> tuple[Job, ...]:
        """Of `ready`, oldest first: the jobs of one free group, as many as fit, those that lead first, and of other
        groups that come along with it. `done` ends it.

        Those of normal priority lead, or where there are none, and in every eighth call, those of low priority. The
        group is that of the leading jobs that has waited longest since they last led its call or came along.
        """
        self._forget(ready)
        leading, others = self._parted(ready)
        groups = _by_group(leading)
        awaited = {group: call for group, jobs in groups.items() if (call := self._awaits(group, jobs))}
        self._awaited |= awaited
        if groups.keys() <= awaited.keys():
            return ()
        served = self._served[leading[0].request.low]
        order = sorted(groups, key=lambda group: (group in awaited, served.get(group, 0)))
        call = self._filled(order, groups, _by_group(others))
        self._turns += 1
        self._passed = (self._passed + 1) % LOW_EVERY if _mixed(ready) else 0
        served |= dict.fromkeys(call.groups & groups.keys(), self._turns)
        for group in call.groups:
            self._awaited.pop(group, None)
        self._under_way.append(call)
        return tuple(call.jobs)

    def done(self, jobs: Sequence[Job]) -> None:
        """Their call and their steps have ended."""
        self._under_way = [call for call in self._under_way if jobs[0].group not in call.groups]

    def _forget(self, ready: Sequence[Job]) -> None:
        """What was kept of groups that are no more."""
        groups = {job.group for job in ready}
        for low, served in self._served.items():
            self._served[low] = {group: turn for group, turn in served.items() if group in groups}
        self._awaited = {group: call for group, call in self._awaited.items() if group in groups}

    def _awaits(self, group: Hashable, jobs: Sequence[Job]) -> Call | None:
        """The call under way that these jobs, all that lead of a group, wait for; None where they need not."""
        if group in self._awaited:
            call = self._awaited[group]
            return call if call in self._under_way else None
        return next((call for call in self._under_way if call.fits(jobs)), None)

    def _parted(self, ready: Sequence[Job]) -> tuple[list[Job], list[Job]]:
        """Those that may lead this call, and the rest that is free."""
        free = self.free(ready)
        normal, low = [job for job in free if not job.request.low], [job for job in free if job.request.low]
        if not _mixed(ready):
            return normal or low, []
        return (low, normal) if low and self._passed + 1 == LOW_EVERY else (normal, low)

    def _filled(
        self, order: Sequence[Hashable], leading: Mapping[Hashable, list[Job]], others: Mapping[Hashable, list[Job]]
    ) -> Call:
        """A call of the first group in `order`. Of it as many come as fit; of another all that lead, or none."""
        call = Call(self._max_rows, self._max_tokens)
        for jobs in (leading, others):
            for group in (*order, *(group for group in jobs if group not in leading)):
                found = jobs.get(group, [])
                if group == order[0] or group in call.groups:
                    for job in found:
                        call.take([job])
                elif found and (jobs is leading or group not in leading):
                    call.take(found)
        return call


def _by_group(jobs: Sequence[Job]) -> dict[Hashable, list[Job]]:
    """Both in their order."""
    groups: dict[Hashable, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.group, []).append(job)
    return groups


def _mixed(ready: Sequence[Job]) -> bool:
    """Whether there are some of both priorities."""
    return len({job.request.low for job in ready}) > 1
