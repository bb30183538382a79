"""What the batcher need not wait for: asking whether callers are still there, and publishing metrics.

Both cost a round trip to Triton each time, so a thread of their own does them while the engine computes.
"""

import logging
import threading
import time
from collections.abc import Callable

ASK_SECONDS = 0.05
SHARE = 0.05
"""Most of a core that asking may take: with many edits in flight they are asked for less often."""
PUBLISH_SECONDS = 1.0

log = logging.getLogger(__name__)


class DisconnectWatcher:
    """Calls `ask` again and again for as long as it returns that there is something to ask for.

    Calls `publish` when woken, and each second meanwhile. Sleeps when there is nothing to ask for, until woken.
    """

    def __init__(self, ask: Callable[[], bool], publish: Callable[[], None]) -> None:
        self._ask, self._publish = ask, publish
        self._news = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="disconnect watcher", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Something came or went. From any thread."""
        self._news.set()

    def stop(self) -> None:
        """Publishes a last time and ends the thread."""
        self._stopping = True
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        pause: float | None = None
        published = time.monotonic()
        while not self._stopping:
            news = self._news.wait(pause)
            if news:  # else it may have been set since, which is for the next round
                self._news.clear()
            began = time.monotonic()
            try:
                asked = self._ask()
                pause = max(ASK_SECONDS, (time.monotonic() - began) / SHARE) if asked else None
                if news or began - published >= PUBLISH_SECONDS:
                    published = began
                    self._publish()
            except Exception:
                log.exception("callers could not be asked for, or metrics not published")
                pause = PUBLISH_SECONDS
        self._publish()
