"""Several Tritons of one container, each under its supervisor and started again by itself, whatever the others do.

Needs nothing but the standard library: in Triton's image this, its supervisor and their command lines are all there is
of ``embedded``. Where none of them can be kept, this ends, and whoever started it is to begin anew.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedded.revival import LASTING_SECONDS, WAITS
from embedded.supervisor import children

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

_LOOK_SECONDS = 0.2


@dataclass
class _One:
    """A server; ``due``: when it is to be started, of one that does not run."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    asked: bool = False
    """Whether it was asked to end."""
    started: float = 0.0
    due: float = 0.0
    tried: int = -1
    """How often it was started again without having lasted."""


class Several:
    """Servers by their names: each one's program and arguments, and its whole environment.

    One that ends is started again after the first of ``waits`` (seconds) and, unless it lasted, the next time after the
    next; after the last as often as it takes, as long as another lasts.
    """

    def __init__(
        self, servers: Mapping[str, tuple[Sequence[str], Mapping[str, str]]], waits: Sequence[float] = WAITS
    ) -> None:
        self._all = [_One(name, *server) for name, server in servers.items()]
        self._waits = waits
        self._stopping = False
        self._code = 0
        self._before = set(children(os.getpid()))
        self._orphans = False
        """Whether a supervisor was killed itself, so that what it watched over may come to this process."""

    def run(self) -> int:
        """Run them until SIGTERM or SIGINT, or until none can be kept. Returns the exit code."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        while True:
            now = time.monotonic()
            for one in self._all:
                self._look(one, now)
            if self._orphans:
                self._bury()
            if not any(one.process for one in self._all):
                if self._stopping:
                    return self._code
                if all(one.tried >= len(self._waits) for one in self._all):
                    return 1
            time.sleep(_LOOK_SECONDS)

    def _look(self, one: _One, now: float) -> None:
        """Start it if it is time to, or see whether it has ended."""
        if one.process is not None:
            if self._stopping and not one.asked:
                one.asked = True
                one.process.terminate()
            code = one.process.poll()
            if code is not None:
                one.process = None
                self._ended(one, code, now)
        elif not self._stopping and now >= one.due:
            one.process, one.started = subprocess.Popen(one.command, env=dict(one.env)), now
            one.tried += 1

    def _bury(self) -> None:
        """End what such a supervisor left: Triton's processes go on, with their engines, until Triton is buried."""
        own = {one.process.pid for one in self._all if one.process}
        for pid in set(children(os.getpid())) - own - self._before:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)

    def _ended(self, one: _One, code: int, now: float) -> None:
        self._orphans = self._orphans or code < 0
        if self._stopping:
            self._code = self._code or code
            return
        if now - one.started >= LASTING_SECONDS:
            one.tried = 0
        wait = self._waits[min(one.tried, len(self._waits) - 1)]
        one.due = now + wait
        with suppress(OSError):  # nobody reads it: no reason not to start it again
            sys.stdout.write(f"error: {one.name} ended with exit code {code}: started again in {wait:g} s\n")
            sys.stdout.flush()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
