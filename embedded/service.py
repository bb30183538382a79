"""One server process under its supervisor: started, awaited, stopped; its log."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from embedded.command import supervised
from embedded.errors import ServiceFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_POLL_SECONDS = 0.05
_PROBE_SECONDS = 2.0
_SUPERVISOR_START_SECONDS = 30.0
# On top of the grace: the time in which the supervisor kills and collects what is left.
_SUPERVISOR_STOP_SECONDS = 15.0
# Triton's error lines, its last word ("error: creating server"), and what Python, protobuf and TensorRT say their way.
_TELLING = re.compile(
    r"(?:E\d{4} |error: |\[[\d/:-]+\] \[TRT[^\]]*\] \[E\] |\[libprotobuf ERROR|Traceback "
    r"|\w+(?:\.\w+)*(?:Error|Exception)\b|\S+: error )",
    re.IGNORECASE,
)
# What every start without a GPU says, and what Triton says a second time in other words.
_NOISE = re.compile(r"CUDA driver version|CudaDriverHelper|NVML|DCGM|ERROR: Failed to create instance")
_LINES = 20


class Service:
    """A running server. Its whole process tree ends when this process does, and when its supervisor does."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str],
        cwd: Path,
        grace: float,
        options: Sequence[str] = (),
        fds: Sequence[int] = (),
    ) -> None:
        """Start ``command``.

        Raises ServiceFailedError where it does not start.

        Args:
            name: what the server is called in messages.
            command: program and arguments.
            log: file its output is appended to.
            env: its whole environment.
            cwd: its working directory.
            grace: seconds that an orderly stop may take before the processes are killed.
            options: of its supervisor.
            fds: file descriptors it inherits.
        """
        self.name = name
        self.log = log
        self._grace = grace
        self._log_start = log.stat().st_size if log.exists() else 0
        self._control, far_end = socket.socketpair()
        inherited = [part for fd in fds for part in ("--fd", str(fd))]
        whole = supervised(command, grace, "--control", str(far_end.fileno()), *inherited, *options)
        try:
            with far_end, log.open("ab") as output:
                self._supervisor = _start_supervisor(whole, output, env, cwd, [far_end.fileno(), *fds])
        except OSError as error:  # of the system, as for want of memory: it may pass, as other failures do
            self._control.close()
            raise ServiceFailedError(f"{name} did not start: {error}") from None
        self.pid = 0
        self.pid = self._read_pid()

    def _read_pid(self) -> int:
        self._control.settimeout(_SUPERVISOR_START_SECONDS)
        with suppress(OSError):
            answer = self._control.recv(32)
            if answer:
                return int(answer)
        self.stop()
        raise ServiceFailedError(self.explain("did not start"))

    @property
    def exit_code(self) -> int | None:
        """Exit code once the whole process tree is gone, 128 and more for a signal; None before."""
        return self._supervisor.poll()

    def wait_ready(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until it is ``ready``; from then on, every part of it is needed.

        Raises:
            ServiceFailedError: the process ended, or the time did; with the log lines that matter.
        """
        end = time.monotonic() + seconds
        while not ready():
            self.check_alive()
            if time.monotonic() > end:
                raise ServiceFailedError(self.explain(f"was not ready within {seconds:g} s"))
            time.sleep(_POLL_SECONDS)
        with suppress(OSError):
            self._control.send(b"w")

    def check_alive(self) -> None:
        """Raise ServiceFailedError, with the log lines that matter, if the process has ended."""
        if self.exit_code is not None:
            raise ServiceFailedError(self.explain(f"ended with exit code {self.exit_code}"))

    def wait(self) -> None:
        """Wait until the process tree is gone; call after something ended it."""
        self._supervisor.wait(self._grace + _SUPERVISOR_STOP_SECONDS)

    def stop(self) -> None:
        """Ask for an orderly end, wait the grace, and kill what is left. Does nothing to a process that ended."""
        with suppress(OSError):
            self._control.send(b"t")
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
        finally:
            self.kill()

    def kill(self) -> None:
        """End the whole process tree at once. Does nothing to what has ended."""
        self._control.close()  # upon which the supervisor does it
        with suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(_SUPERVISOR_STOP_SECONDS)
        if self.pid and (self._supervisor.returncode or 0) < 0:
            # It was killed itself, and left what it watched over: the command's process group.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def explain(self, what: str) -> str:
        """One line saying ``what`` happened and where the log is, then the lines of the log that tell why."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._log_start)
                lines = telling_lines(file.read().decode(errors="replace"))
        except OSError as error:
            lines = [f"which cannot be read: {error.strerror}"]
        return "\n".join([f"{self.name} {what}; its log: {self.log}", *(f"  {line}" for line in lines)])


def _start_supervisor(
    command: Sequence[str], output: BinaryIO, env: Mapping[str, str], cwd: Path, fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(env),
        cwd=str(cwd),
        pass_fds=fds,
        # Ctrl-C reaches this process alone, which then stops the servers in their order.
        start_new_session=True,
    )


def telling_lines(log: str) -> list[str]:
    """The last lines of ``log`` that speak of an error, or its last lines when none does."""
    # Triton writes a model's traceback on one line, its line ends escaped.
    lines = [line.rstrip() for line in log.replace("\\n", "\n    ").splitlines() if line.strip(' "')]
    # Indented lines go on with what the line before them said.
    starts = [place for place, line in enumerate(lines) if not line.startswith("  ")]
    blocks = [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]
    telling = [block for block in blocks if _TELLING.match(block[0]) and not _NOISE.search(block[0])]
    return [line for block in telling for line in block][-_LINES:] or lines[-_LINES:]


def answers(host: str, port: int, path: str) -> bool:
    """Whether ``GET path`` is 200."""
    # Not urllib: a proxy from the environment must not come between.
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
