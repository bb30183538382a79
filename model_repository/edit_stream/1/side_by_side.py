"""The same for each of several edits at once, where that is much: numpy and torch compute without Python's lock."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

THREADS = min(4, len(os.sched_getaffinity(0)))
LARGE_BYTES = 1 << 18
"""Of what one of them writes. To have another thread do less than that takes longer than to do it."""


class SideBySide:
    """Does what it is given on the calling thread and, where a task writes `large_bytes`, on `threads` - 1 of its own.
    From any thread."""

    def __init__(self, threads: int = THREADS, large_bytes: int = LARGE_BYTES) -> None:
        self._others, self._large_bytes = threads - 1, large_bytes
        self._pool = ThreadPoolExecutor(max(1, self._others), "side by side")  # which begins none before it is needed

    def __call__(self, tasks: Sequence[Callable[[], object]], bytes_each: int) -> None:
        """Returns when all are done. Where one raises, so does this, once none is under way; others may not be done."""
        waiting = deque(tasks)
        helping = min(len(tasks) - 1, self._others) if bytes_each >= self._large_bytes else 0
        helpers = [self._pool.submit(_do, waiting) for _ in range(helping)]
        try:
            _do(waiting)
        finally:
            begun = [helper for helper in helpers if not helper.cancel()]
            errors = [error for helper in begun if (error := helper.exception())]
        for error in errors:
            raise error

    def close(self) -> None:
        """Ends its threads."""
        self._pool.shutdown()


def _do(waiting: deque[Callable[[], object]]) -> None:
    while True:
        try:
            task = waiting.popleft()
        except IndexError:  # as another thread may have taken the last one
            return
        task()
