"""Triton and the gateway on one repository, as one thing to start, look at and stop."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from embedded import ports
from embedded.command import END_SECONDS, PYTHON_PROCESS, TritonOptions, TritonPorts, command_line, private
from embedded.errors import EmbeddedError, ServiceFailedError
from embedded.memory import memory_short, shared_memory_missing
from embedded.repository import check_repository
from embedded.revival import WAITS, Revival
from embedded.run_folder import BACKENDS, EMPTY, STOP, run_folder
from embedded.service import Service, answers
from embedded.settings import ROOT, Settings, load_settings
from embedded.supervisor import SHM_PREFIX, remove_stale_shm
from embedded.wheel import environment, find_triton, lay_out_backends
from gateway.collector import DELAY, traces_url
from gateway.settings import Settings as GatewaySettings

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_HOST = "127.0.0.1"
_WATCH_SECONDS = 0.2
# On top of the time that edits in flight get: for the gateway to send their answers.
_ANSWER_SECONDS = 5.0
_DRAIN = "TRITOUCH_DRAIN_SECONDS"


class Embedded:
    """The running servers. Made by `serve`."""

    def __init__(self, settings: Settings, repository: Path, run: Path, env: Mapping[str, str]) -> None:
        """Choose ports and lay out the backends in ``run``; nothing is started yet."""
        self.repository = repository
        self.run = run
        self.triton_log = run / "triton.log"
        self.gateway_log = run / "gateway.log"
        self._settings = settings
        self._env = {**os.environ, **env}
        self._traces_url = _traces_url(self._env)
        self._files = find_triton()
        self._ports = _triton_ports(settings)
        self._backends = run / BACKENDS
        # Python models find modules in Triton's working directory before any other.
        self._empty = run / EMPTY
        try:
            self._empty.mkdir()
            lay_out_backends(self._files, self._backends)
        except OSError as error:
            raise EmbeddedError(f"the run folder {run} cannot be filled: {error}") from None
        self._triton: Service | None = None
        self._gateway: Service | None = None
        self._http_url = ""
        self._stopped = threading.Event()

    @property
    def http_url(self) -> str:
        """The gateway's address, as in ``http://127.0.0.1:8000``; empty when it was not asked for."""
        return self._http_url

    @property
    def triton_http(self) -> str:
        """Triton's HTTP address, as tritonclient takes it: host and port; empty when it was not asked for."""
        return "" if self._ports.http is None else f"{_HOST}:{self._ports.http}"

    @property
    def triton_grpc(self) -> str:
        """Triton's gRPC address: host and port."""
        return f"{_HOST}:{self._ports.grpc}"

    @property
    def metrics_url(self) -> str:
        """Where Triton's metrics are read."""
        return f"http://{_HOST}:{self._ports.metrics}/metrics"

    @property
    def triton_pid(self) -> int:
        """Process id of the Triton server itself."""
        return self._need_triton().pid

    def triton_command(self, shm_prefix: str) -> list[str]:
        """Triton's program and arguments; the names of its shared memory begin with ``shm_prefix``."""
        options = TritonOptions(
            str(self._files.server),
            self.repository,
            _HOST,
            self._ports,
            max(1, round(self._settings.drain_seconds)),
            cache_bytes=self._settings.triton_cache_bytes,
            shm_bytes=self._settings.triton_shm_bytes,
            shm_prefix=shm_prefix,
            backends=self._backends,
            caches=self._files.caches,
            traces_url=self._traces_url,
            traces_delay=self._env.get(DELAY, ""),
        )
        return command_line(options)

    def start_triton(self) -> None:
        """Start Triton and wait until every model is ready.

        Raises:
            ServiceFailedError: a model does not load, or the time is up.
        """
        prefix = f"{SHM_PREFIX}{secrets.token_hex(6)}-"
        self._triton = Service(
            "Triton",
            private(self.triton_command(prefix)),
            self.triton_log,
            env=environment(self._files, self._env),
            cwd=self._empty,
            grace=self._settings.drain_seconds + END_SECONDS,
            options=["--shm", prefix, "--watch", PYTHON_PROCESS, "--stop-file", str(self.run / STOP)],
        )
        # The last port that Triton opens, after all models are loaded.
        ready = partial(answers, _HOST, self._ports.metrics, "/metrics")
        self._triton.wait_ready(ready, self._settings.triton_start_seconds)

    def start_gateway(self, listening: socket.socket) -> None:
        """Start the gateway on a bound socket, and wait until it is ready.

        Raises:
            ServiceFailedError: it ended, or the time is up.
        """
        host, port = listening.getsockname()[:2]
        self._gateway = Service(
            "gateway",
            [sys.executable, "-m", "gateway", "--fd", str(listening.fileno())],
            self.gateway_log,
            env={
                **self._env,
                "TRITOUCH_TRITON_GRPC": self.triton_grpc,
                _DRAIN: _drain_seconds(self._settings, self._env),
            },
            cwd=ROOT,
            grace=self._settings.drain_seconds + _ANSWER_SECONDS,
            fds=[listening.fileno()],
        )
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        self._gateway.wait_ready(partial(answers, reachable, port, "/readyz"), self._settings.gateway_start_seconds)
        self._http_url = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"

    def kill_triton(self) -> None:
        """End Triton as a crash would (SIGKILL), and wait until its Python processes are gone too."""
        service = self._need_triton()
        os.kill(service.pid, signal.SIGKILL)
        service.wait()

    def restart_triton(self) -> None:
        """Start Triton on the same ports, stopping it first if it runs. Raises as `start_triton`."""
        self._need_triton().stop()
        self.start_triton()

    def watch(self, tell: Callable[[str], None], waits: Sequence[float] = WAITS) -> None:
        """Start Triton again whenever it has ended, on the same ports, and ``tell`` so; until `stop`.

        Raises:
            ServiceFailedError: the gateway has ended, or Triton after each of ``waits`` (seconds) again; with the log
                lines that matter.
        """
        revival = Revival(self.restart_triton, tell, waits)
        while not self._stopped.wait(_WATCH_SECONDS):
            if self._gateway is not None:
                self._gateway.check_alive()
            try:
                self._need_triton().check_alive()
            except ServiceFailedError as failure:
                revival.after(failure)

    def stop(self) -> None:
        """Stop the gateway, so that nothing new comes in, and then Triton; at once when this is interrupted."""
        self._stopped.set()
        services = [service for service in (self._gateway, self._triton) if service is not None]
        try:
            for service in services:
                service.stop()
        except BaseException:
            for service in services:
                service.kill()
            raise

    def _need_triton(self) -> Service:
        if self._triton is None:
            raise RuntimeError("Triton was not started")
        return self._triton


@contextmanager
def serve(
    repository: Path | None = None,
    *,
    gateway: bool = True,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Embedded]:
    """Serve a model repository until the block is left.

    Args:
        repository: folder to serve; by default the setting's.
        gateway: whether to start the gateway as well.
        port: the gateway's port, 0 for a free one; by default its own setting.
        env: environment variables for both servers, on top of this process's.
        settings: by default read from the environment.
        tell: takes lines on what will hardly go well.

    Yields:
        The servers, ready.

    Raises:
        EmbeddedError: they cannot be started; the message says why in one line, and has log lines if there are any.
    """
    settings = settings or load_settings()
    with ExitStack() as stack:
        # The gateway's port first: a busy one is the commonest fault, and this finds it at once.
        listening = stack.enter_context(_gateway_socket(port)) if gateway else None
        checked = check_repository(repository or settings.repository)
        _check_memory(checked, settings, tell)
        run = stack.enter_context(run_folder(settings.run_folder))
        embedded = Embedded(settings, checked, run, env or {})
        stack.callback(embedded.stop)
        embedded.start_triton()
        if listening is not None:
            embedded.start_gateway(listening)
            # The gateway holds it now. Were it open here too, a dead gateway's clients would wait for ever.
            listening.close()
        yield embedded


def _check_memory(repository: Path, settings: Settings, tell: Callable[[str], None]) -> None:
    remove_stale_shm()
    missing = shared_memory_missing(repository, settings.triton_shm_bytes)
    if missing:
        raise EmbeddedError(missing)
    short = memory_short(repository)
    if short:
        tell(short)


def _gateway_socket(port: int | None) -> socket.socket:
    try:
        own = GatewaySettings()
    except ValidationError as error:
        wrong = error.errors(include_input=False)[0]
        name = "_".join(["TRITOUCH", *map(str, wrong["loc"][:1])]).upper()
        raise EmbeddedError(f"{name}: {wrong['msg']}") from None
    return ports.bind(own.host, own.port if port is None else port)


def _traces_url(env: Mapping[str, str]) -> str:
    try:
        return traces_url(env)
    except ValueError as error:
        raise EmbeddedError(str(error)) from None


def _drain_seconds(settings: Settings, env: Mapping[str, str]) -> str:
    """How long the gateway waits for edits in flight: as long as stopping may take, or less if the user says so."""
    longest = max(1, round(settings.drain_seconds))
    own = env.get(_DRAIN)
    return own if own is not None and float(own) < longest else str(longest)


def _triton_ports(settings: Settings) -> TritonPorts:
    wanted = [("Triton's gRPC", settings.triton_grpc_port), ("Triton's metrics", settings.triton_metrics_port)]
    if settings.triton_http_port is not None:
        wanted.append(("Triton's HTTP", settings.triton_http_port))
    grpc, metrics, *http = ports.choose(_HOST, wanted)
    return TritonPorts(http[0] if http else None, grpc, metrics)
