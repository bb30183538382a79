"""Runs one command, ends it when a part of it has died, and sees to it that nothing of it stays behind.

Started as a script, with the standard library alone, here and in containers. ``control`` is one end of a socket pair:
the supervisor writes the command's process id to it, a ``t`` from the other end asks for an orderly stop, as SIGTERM
does, and its closing, which the kernel does even for a parent that was killed, ends everything at once. Orphaned
grandchildren are adopted, so Triton's Python processes end with it however Triton ends. It exits as the command did.

``watch`` names a program. Triton goes on without a Python process that was killed, and fails whatever needs it, for
ever: so once a child of the command that runs this program is gone, the command is ended at once. A ``w`` says that
the command has started, and that this holds from now on; without ``control`` it always does.

``stop-file`` is how a stop begins before the command hears of it, which would drop what is in flight: with a line in
it, those who work under the command take in nothing new, and they hold a lock on it while work is under way.

Nobody else can read the command's shared memory: every name in /dev/shm that starts with ``shm`` is removed at the
end, and those of supervisors that were killed themselves at the next start.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# Started as a script by a Python that keeps to its own library, it finds the rest of its package by where it lies.
sys.path.append(str(Path(__file__).parents[1]))

from embedded.shared_memory import hold_shm, remove_shm, remove_stale_shm

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_SECONDS = 10.0
_WATCH_SECONDS = 1.0
# What is watched starts with the command; so new ones, for which looking takes milliseconds, are looked for less often.
# Not much less: that one has died is never noticed where it had not been seen alive.
_MOST_ROUNDS = 2
_LOCK_SECONDS = 0.05
# Of the grace: for the command itself to end, once what was under way is done or has had its time.
_END_SECONDS = 5.0
# Triton has nothing in flight then, and unloads its models; longer it waits for a request that it has lost count of.
_UNLOAD_SECONDS = 30.0
STOP_FILE_VARIABLE = "TRITOUCH_STOP_FILE"


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


class StopFile:
    """The file that says that a stop has begun, and whose lock says that work is under way."""

    def __init__(self, path: str) -> None:
        """Make it anew, empty, and name it to the command."""
        self._path = Path(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.environ[STOP_FILE_VARIABLE] = path

    def begin(self) -> None:
        """From now on nothing new is to be taken in."""
        os.pwrite(self._descriptor, b"stop\n", 0)

    def idle(self) -> bool:
        """Whether no work is under way; and then none begins any more."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def remove(self) -> None:
        """Leave nothing behind."""
        self._path.unlink(missing_ok=True)


class Supervisor:
    """One command, its descendants and its shared memory."""

    def __init__(self, options: argparse.Namespace, control: socket.socket | None, keep: list[int]) -> None:
        """Start the command of ``options``, handing it the file descriptors ``keep``."""
        self._control = control
        self._grace: float = options.grace
        self._program: str = options.watch
        self._watching = control is None and bool(options.watch)
        self._stop_file = StopFile(options.stop_file) if options.stop_file else None
        self._parts: dict[int, str] = {}  # process ids of what is watched -> what each is for
        self._rounds, self._round = 1, 0  # in how many, and in which since, new ones are looked for
        self._ask_at: float | None = None  # when the command is asked to end, whatever is under way
        self._kill_at: float | None = None
        self._killed = False
        self._status: int | None = None
        self._wake, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        signal.signal(signal.SIGINT, lambda *_: self._stop())
        self._take_signals()
        # The supervisor has one thread, so that the preparation between fork and exec is safe, and the
        # death signal, which follows the thread that forked, comes when the supervisor dies and not before.
        self._process = subprocess.Popen(
            options.command,
            pass_fds=keep,
            process_group=0,
            preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - one thread
            stdin=subprocess.DEVNULL,
        )

    def _take_signals(self) -> None:
        """Let those come that whoever became this process held back; where one did, nothing is started."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        if self._kill_at is not None:
            if self._stop_file is not None:
                self._stop_file.remove()
            raise SystemExit(128 + signal.SIGTERM)

    @property
    def pid(self) -> int:
        """Process id of the command."""
        return self._process.pid

    def run(self) -> int:
        """Wait for the command's end, that of a part of it, a request to stop or the parent's death.

        Returns the command's exit status, negative for a signal.
        """
        with selectors.DefaultSelector() as selector:
            if self._control is not None:
                selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while self._status is None:
                for key, _ in selector.select(self._pause()):
                    self._read(key.fileobj, selector)
                self._look()
                self._reap()
        self._kill_rest()
        if self._stop_file is not None:
            self._stop_file.remove()
        return self._status

    def _read(self, source: object, selector: selectors.BaseSelector) -> None:
        if source is self._wake or self._control is None:
            self._wake.recv(4096)
            return
        try:
            asked = self._control.recv(1)
        except OSError:
            asked = b""
        if asked == b"w":
            self._watching = bool(self._program)
        elif asked:
            self._stop()
        else:
            selector.unregister(self._control)
            self._kill()

    def _pause(self) -> float | None:
        """Seconds until there is something to look at."""
        if self._killed:
            return None
        if self._kill_at is None:
            return _WATCH_SECONDS if self._watching else None
        return _LOCK_SECONDS if self._ask_at is not None else max(0.0, self._kill_at - time.monotonic())

    def _look(self) -> None:
        """Do what it is time for."""
        now = time.monotonic()
        if self._killed:
            return
        if self._kill_at is None:
            if self._watching:
                self._watch()
        elif now >= self._kill_at:
            self._kill()
        elif self._ask_at is not None and (now >= self._ask_at or self._stop_file is None or self._stop_file.idle()):
            if self._stop_file is not None and now < self._ask_at:
                self._kill_at = min(self._kill_at, now + _UNLOAD_SECONDS)
            self._ask_at = None
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def _watch(self) -> None:
        """End the command, unless it is ending, if one of the processes that it needs is gone."""
        dead = [f"{pid} ({name})" for pid, name in self._parts.items() if not _instance(pid, self._program)]
        self._round += 1
        if self._round >= self._rounds:
            found = {pid: name for pid in children(self.pid) if (name := _instance(pid, self._program))}
            self._rounds = 1 if found.keys() - self._parts else min(2 * self._rounds, _MOST_ROUNDS)
            self._parts, self._round = found, 0
        self._reap()
        if dead and self._status is None:
            self._kill()
            with contextlib.suppress(OSError):  # the log's disk is full, perhaps for the same reason
                os.write(1, os.fsencode(f"error: {self._program} {', '.join(dead)} has died, and all is ended\n"))

    def _stop(self) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace
            self._ask_at = self._kill_at - min(_END_SECONDS, self._grace / 2)
            if self._stop_file is not None:
                self._stop_file.begin()

    def _kill(self) -> None:
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> bool:
        """Collect ended children; False when there are none left, ended or not."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self._status = os.waitstatus_to_exitcode(status)

    def _kill_rest(self) -> None:
        """Kill what the command left, including what left its process group, and wait for it."""
        end = time.monotonic() + _KILL_SECONDS
        while self._reap() and time.monotonic() < end:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            for child in children(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.01)


def children(parent: int) -> list[int]:
    """Process ids of a process's children, adopted ones too; empty where the kernel does not tell."""
    found: list[int] = []
    for thread in Path("/proc", str(parent), "task").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (thread / "children").read_text().split()]
    return found


def _instance(pid: int, program: str) -> str:
    """What a process that runs ``program`` is for; empty if it runs another, or is dead."""
    try:
        words = Path("/proc", str(pid), "cmdline").read_text().split("\0")
    except OSError:
        return ""
    return words[1] if Path(words[0]).name == program else ""


def main(arguments: list[str]) -> int:
    """Run the command of ``arguments``; its exit status, 128 and more for a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=int)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--shm", default="")
    parser.add_argument("--watch", default="")
    parser.add_argument("--stop-file", default="")
    parser.add_argument("--fd", type=int, action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    control = None if options.control is None else socket.socket(fileno=options.control)
    remove_stale_shm()
    keep = [*options.fd, hold_shm(options.shm)] if options.shm else options.fd
    try:
        supervisor = Supervisor(options, control, keep)
        if control is not None:
            control.sendall(f"{supervisor.pid}\n".encode())
        status = supervisor.run()
    finally:
        if options.shm:
            remove_shm(options.shm)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
