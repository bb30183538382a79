"""One Triton of those that serve a repository side by side: its ports, log and GPU; started, stopped, kept alive."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from embedded import ports
from embedded.command import END_SECONDS, PORTS_APART, PYTHON_PROCESS, TritonOptions, TritonPorts, command_line, private
from embedded.errors import ServiceFailedError
from embedded.revival import WAITS, Revival
from embedded.run_folder import BACKENDS, EMPTY, STOP
from embedded.service import Service, answers
from embedded.shared_memory import new_prefix
from embedded.wheel import environment
from gateway.collector import DELAY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from embedded.settings import Settings
    from embedded.wheel import TritonFiles

HOST = "127.0.0.1"
_WATCH_SECONDS = 0.2


@dataclass(frozen=True)
class Shared:
    """What all Tritons of one run have in common.

    ``env``: the environment that each begins with. ``traces_url``: where their traces go, empty for none.
    """

    settings: Settings
    files: TritonFiles
    repository: Path
    run: Path
    env: Mapping[str, str]
    traces_url: str = ""


class Replica:
    """A Triton. ``name`` is for messages, ``mark`` stands in the names of its files, ``gpu`` is the one it sees."""

    def __init__(self, shared: Shared, listening: TritonPorts, name: str, mark: str, gpu: str | None) -> None:
        """Nothing is started yet."""
        self.name = name
        self.log = shared.run / f"triton{mark}.log"
        self._shared, self._ports = shared, listening
        self._stop_file = shared.run / f"{STOP}{mark}"
        self._env = environment(shared.files, shared.env) | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
        self._service: Service | None = None
        self._starting = threading.Lock()  # held while a service takes the place of another
        self.stopped = threading.Event()
        """Set once it is not to be started again."""

    @property
    def grpc(self) -> str:
        """Its gRPC address: host and port."""
        return f"{HOST}:{self._ports.grpc}"

    @property
    def http(self) -> str:
        """Its HTTP address, as tritonclient takes it: host and port; empty when it was not asked for."""
        return "" if self._ports.http is None else f"{HOST}:{self._ports.http}"

    @property
    def metrics_url(self) -> str:
        """Where its metrics are read."""
        return f"http://{HOST}:{self._ports.metrics}/metrics"

    @property
    def service(self) -> Service:
        """Its process."""
        if self._service is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._service

    def command(self, shm_prefix: str) -> list[str]:
        """Triton's program and arguments; the names of its shared memory begin with ``shm_prefix``."""
        settings, files = self._shared.settings, self._shared.files
        options = TritonOptions(
            str(files.server),
            self._shared.repository,
            HOST,
            self._ports,
            max(1, round(settings.drain_seconds)),
            cache_bytes=settings.triton_cache_bytes,
            shm_bytes=settings.triton_shm_bytes,
            shm_prefix=shm_prefix,
            backends=self._shared.run / BACKENDS,
            caches=files.caches,
            traces_url=self._shared.traces_url,
            traces_delay=self._shared.env.get(DELAY, ""),
        )
        return command_line(options)

    def launch(self) -> None:
        """Start Triton, without waiting for it. Raises ServiceFailedError."""
        prefix = new_prefix()
        with self._starting:
            if self.stopped.is_set():
                raise ServiceFailedError(f"{self.name} was stopped")
            self._service = Service(
                self.name,
                private(self.command(prefix)),
                self.log,
                env=self._env,
                # Python models find modules in Triton's working directory before any other.
                cwd=self._shared.run / EMPTY,
                grace=self._shared.settings.drain_seconds + END_SECONDS,
                options=["--shm", prefix, "--watch", PYTHON_PROCESS, "--stop-file", str(self._stop_file)],
            )

    def wait_ready(self) -> None:
        """Wait until every model is ready.

        Raises:
            ServiceFailedError: a model does not load, or the time is up.
        """
        # The last port that Triton opens, after all models are loaded.
        ready = partial(answers, HOST, self._ports.metrics, "/metrics")
        self.service.wait_ready(ready, self._shared.settings.triton_start_seconds)

    def restart(self) -> None:
        """Start Triton on the same ports, stopping it first if it runs, and wait until it is ready.

        Raises:
            ServiceFailedError: a model does not load, or the time is up.
        """
        self.service.stop()
        self.launch()
        self.wait_ready()

    def crash(self) -> None:
        """End Triton as a crash would (SIGKILL), and wait until its Python processes are gone too."""
        os.kill(self.service.pid, signal.SIGKILL)
        self.service.wait()

    def stop(self) -> None:
        """Stop it in good order, and leave it so."""
        service = self._ended()
        if service is not None:
            service.stop()

    def kill(self) -> None:
        """End it at once, and leave it so."""
        service = self._ended()
        if service is not None:
            service.kill()

    def _ended(self) -> Service | None:
        self.stopped.set()
        with self._starting:
            return self._service


class Kept:
    """Starts a Triton again whenever it has ended, and ``tell``s so, in a thread of its own, until it is stopped.

    ``failure``: the last one, once it has ended after each of ``waits`` (seconds) again; None while it is kept.
    """

    def __init__(self, replica: Replica, tell: Callable[[str], None], waits: Sequence[float] = WAITS) -> None:
        self.failure: ServiceFailedError | OSError | None = None
        self.name = replica.name
        self._replica, self._told = replica, tell
        self._revival = Revival(replica.restart, self._tell, waits, replica.stopped.wait)
        threading.Thread(target=self._run, name=f"keeper of {replica.name}", daemon=True).start()

    def _run(self) -> None:
        replica = self._replica
        while not replica.stopped.wait(_WATCH_SECONDS):
            try:
                replica.service.check_alive()
            except ServiceFailedError as failure:
                try:
                    self._revival.after(failure)
                except (ServiceFailedError, OSError) as last:
                    if not replica.stopped.is_set():
                        self.failure = last
                    return

    def _tell(self, line: str) -> None:
        if not self._replica.stopped.is_set():
            self._told(line)


def listening(settings: Settings, number: int) -> list[TritonPorts]:
    """The ports of so many Tritons: the settings' own, those of each further one so many after them, or free ones.

    Raises:
        EmbeddedError: a wanted port is busy; names it.
    """
    parts = {"gRPC": settings.triton_grpc_port, "metrics": settings.triton_metrics_port}
    if settings.triton_http_port is not None:
        parts["HTTP"] = settings.triton_http_port
    wanted = [
        (f"Triton's {what}", port + PORTS_APART * place if port else 0)
        for place in range(number)
        for what, port in parts.items()
    ]
    chosen, each = ports.choose(HOST, wanted), len(parts)
    every = [chosen[start : start + each] for start in range(0, len(chosen), each)]
    return [TritonPorts(http[0] if http else None, grpc, metrics) for grpc, metrics, *http in every]
