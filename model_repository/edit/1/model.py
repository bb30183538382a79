"""`edit`: the unary front of `edit_stream`. A model that streams takes no unary calls, and this one knows nothing else.

All pictures of a request are one answer; errors and their status are those that `edit_stream` gave.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from relay import Callers, relay

MAX_JOBS = "TRITOUCH_MAX_JOBS"
"""Read by `edit_stream`, which says what is wrong with it."""
DEFAULT_MAX_JOBS = 64
SPARE = 16
"""Threads for requests that `edit_stream` refuses at once, while all that it took in wait."""

MOST = 120
"""Fewer than the calls that the server lets one model have under way: cancellations are calls, too."""


class TritonPythonModel:
    """Hands requests on, each on a thread of its own, which only waits."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Starts the thread that asks for callers."""
        jobs = os.environ.get(MAX_JOBS, "")
        waiting = (int(jobs) if jobs.isdecimal() else DEFAULT_MAX_JOBS) + SPARE
        self._threads = ThreadPoolExecutor(min(waiting, MOST), "front")
        self._callers = Callers()

    def execute(self, requests: list[Any]) -> None:
        """Takes requests in and returns at once; the answer follows through each request's response sender."""
        for request in requests:
            self._threads.submit(relay, request, request.get_response_sender(), self._callers)

    def finalize(self) -> None:
        """Waits for what is in flight."""
        self._threads.shutdown()
        self._callers.stop()
