"""Runs one command and sees to it that nothing of it stays behind.

Started as a script, with the standard library alone. ``control`` is one end of a socket pair: the supervisor
writes the command's process id to it, a byte from the other end asks for an orderly stop, and its closing,
which the kernel does even for a parent that was killed, ends everything at once. The supervisor adopts orphaned
grandchildren, so Triton's Python processes end with it however Triton ends. It exits as the command did.

It also owns the command's shared memory: every name in /dev/shm that starts with ``shm`` is removed at the
end, and those of supervisors that were killed themselves are removed at the next start.
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

SHM = Path("/dev/shm")  # noqa: S108 - where the kernel keeps POSIX shared memory, not a temporary file of ours
SHM_PREFIX = "tritouch-"
_LOCK_SUFFIX = ".lock"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_SECONDS = 10.0


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _die_with_supervisor() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def remove_shm(prefix: str) -> None:
    """Remove every shared memory region whose name starts with ``prefix``."""
    for region in SHM.glob(prefix + "*"):
        with contextlib.suppress(OSError):
            region.unlink()


def remove_stale_shm() -> None:
    """Remove the regions of supervisors that are gone, told by their lock no longer being held."""
    for lock in SHM.glob(f"{SHM_PREFIX}*{_LOCK_SUFFIX}"):
        with contextlib.suppress(OSError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_shm(lock.name.removesuffix(_LOCK_SUFFIX))


def hold_shm(prefix: str) -> int:
    """Create and lock the file that says ``prefix`` is in use; the lock lasts while any process has it open.

    Returns:
        The file descriptor, to be inherited by the command.
    """
    # Locked before it gets its name, so that no other supervisor takes it for a stale one.
    unnamed = SHM / f".{prefix}{_LOCK_SUFFIX}"
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(SHM / f"{prefix}{_LOCK_SUFFIX}")
    return descriptor


class Supervisor:
    """One command, its descendants and its shared memory."""

    def __init__(self, command: list[str], control: socket.socket, grace: float, keep: list[int]) -> None:
        """Start ``command``, handing it the file descriptors ``keep``."""
        self._control = control
        self._grace = grace
        self._deadline: float | None = None
        self._status: int | None = None
        self._wake, wake_writer = socket.socketpair()
        wake_writer.setblocking(False)
        self._wake_writer = wake_writer
        signal.set_wakeup_fd(wake_writer.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        signal.signal(signal.SIGINT, lambda *_: self._stop())
        # The supervisor has one thread, so that the preparation between fork and exec is safe, and the
        # death signal, which follows the thread that forked, comes when the supervisor dies and not before.
        self._process = subprocess.Popen(
            command,
            pass_fds=keep,
            process_group=0,
            preexec_fn=_die_with_supervisor,  # noqa: PLW1509 - one thread
            stdin=subprocess.DEVNULL,
        )

    @property
    def pid(self) -> int:
        """Process id of the command."""
        return self._process.pid

    def run(self) -> int:
        """Wait for the command's end, a request to stop or the parent's death.

        Returns:
            The command's exit status, negative for a signal.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while self._status is None:
                timeout = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
                events = selector.select(timeout)
                if not events:
                    self._kill()
                for key, _ in events:
                    self._read(key.fileobj, selector)
                self._reap()
        self._kill_rest()
        return self._status

    def _read(self, source: object, selector: selectors.BaseSelector) -> None:
        if source is self._wake:
            self._wake.recv(4096)
            return
        try:
            asked = self._control.recv(1)
        except OSError:
            asked = b""
        if asked:
            self._stop()
        else:
            selector.unregister(self._control)
            self._kill()

    def _stop(self) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._grace
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def _kill(self) -> None:
        self._deadline = None
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
            for child in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.01)


def _children() -> list[int]:
    """Process ids of this process's children, adopted ones too; empty where the kernel does not tell."""
    try:
        return [int(pid) for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split()]
    except OSError:
        return []


def main(arguments: list[str]) -> int:
    """Run the command of ``arguments``; its exit status, 128 and more for a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--shm", default="")
    parser.add_argument("--fd", type=int, action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    control = socket.socket(fileno=options.control)
    remove_stale_shm()
    keep = [*options.fd, hold_shm(options.shm)] if options.shm else options.fd
    supervisor = Supervisor(options.command, control, options.grace, keep)
    control.sendall(f"{supervisor.pid}\n".encode())
    try:
        status = supervisor.run()
    finally:
        if options.shm:
            remove_shm(options.shm)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
