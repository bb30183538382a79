"""Starts a server again that has ended, a bounded number of times."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from embedded.errors import ServiceFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WAITS = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each try of a row."""
LASTING_SECONDS = 60.0
"""What has run for so long is well again, and the next failure begins a new row of tries."""


class Revival:
    """Starts the server by ``start``, and says by ``tell``, in one line each time, why and when.

    ``waits``: seconds before each try of a row, which is as long as these are many. ``sleep`` takes such seconds, and
    returns True where it is not to be started any more.
    """

    def __init__(
        self,
        start: Callable[[], None],
        tell: Callable[[str], None],
        waits: Sequence[float] = WAITS,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._start, self._tell, self._waits, self._sleep = start, tell, waits, sleep
        self._tried = 0
        self._well_since: float | None = time.monotonic()

    def after(self, failure: ServiceFailedError) -> None:
        """Start the server again after this failure.

        Raises:
            ServiceFailedError: the last failure, when all tries of a row are used up.
        """
        if self._well_since is not None and time.monotonic() - self._well_since >= LASTING_SECONDS:
            self._tried = 0
        while True:
            self._well_since = None
            if self._tried == len(self._waits):
                raise failure
            wait = self._waits[self._tried]
            self._tried += 1
            self._tell(f"{_line(failure)}: started again in {wait:g} s ({self._tried} of {len(self._waits)})")
            if self._sleep(wait):
                raise failure
            try:
                self._start()
            except ServiceFailedError as another:
                failure = another
            else:
                self._well_since = time.monotonic()
                return


def _line(failure: ServiceFailedError) -> str:
    """What failed, and the last line of its log if that says why."""
    what, *lines = str(failure).splitlines()
    last = lines[-1].strip() if lines else ""
    return f"{what} ({last})" if last.startswith("error: ") else what
