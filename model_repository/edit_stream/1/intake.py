"""Whether edits are taken in: not once the server's supervisor has begun to stop it.

The supervisor names a file. A line in it says that a stop has begun; while edits are in flight, a lock on it is held
here, so that the server is not told to stop before they are done. Without a supervisor, edits are always taken in.
"""

import fcntl
import os

from jobs import StoppingError

STOP_FILE = "TRITOUCH_STOP_FILE"


class Intake:
    """Implements `jobs.Intake` by the file at `path`; "" for none. Raises OSError where it cannot be opened."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY) if path else None
        self._held = False

    def enter(self) -> None:
        """An edit is coming in. Raises StoppingError."""
        if self._descriptor is None:
            return
        if os.fstat(self._descriptor).st_size or not self._locked():
            raise StoppingError("the server is stopping")

    def leave(self) -> None:
        """No edit is in flight any more."""
        if self._descriptor is not None and self._held:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self._held = False

    def _locked(self) -> bool:
        """Whether the lock is held here now: where a stop has just begun, the supervisor may have it."""
        if not self._held and self._descriptor is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._held = True
        return True
