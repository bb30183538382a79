"""An event loop whose clock does not wait: when nothing is left to do but to wait, it is later at once.

What is about time is then the same on every machine, however busy, and takes none. Only for what waits for nothing but
time: neither sockets nor threads.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Clock(asyncio.SelectorEventLoop):
    """That loop. `time()` begins at 0."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        super().__init__()
        selector: Any = vars(self)["_selector"]
        select = selector.select

        def later(timeout: float | None = None) -> Any:
            self._elapsed += timeout or 0
            return select(None if timeout is None else 0)

        selector.select = later

    def time(self) -> float:
        """Seconds that have been waited for."""
        return self._elapsed


def run(scene: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on such a loop."""
    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(scene)
