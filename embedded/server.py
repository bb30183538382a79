"""Triton and the gateway on one repository, as one thing to start, look at and stop."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from backends.gpu import chosen
from embedded import ports
from embedded.errors import EmbeddedError
from embedded.memory import memory_short, shared_memory_missing
from embedded.replica import Kept, Replica, Shared, listening
from embedded.repository import check_repository
from embedded.revival import WAITS
from embedded.run_folder import BACKENDS, EMPTY, by_a_plain_path, run_folder
from embedded.service import Service, answers
from embedded.settings import ROOT, Settings, load_settings, require_right
from embedded.shared_memory import remove_stale_shm
from embedded.wheel import find_triton, lay_out_backends
from gateway.collector import traces_url
from gateway.settings import Settings as GatewaySettings

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

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
        self.gateway_log = run / "gateway.log"
        self._settings = settings
        self._env = {**os.environ, **env}
        files, traces = find_triton(), _traces_url(self._env)
        try:
            (run / EMPTY).mkdir()
            lay_out_backends(files, run / BACKENDS)
            served = by_a_plain_path(repository, run)
        except OSError as error:
            raise EmbeddedError(f"the run folder {run} cannot be filled: {error}") from None
        shared = Shared(settings, files, served, run, self._env, traces)
        self.tritons = _replicas(shared)
        self._gateway: Service | None = None
        self._http_url = ""
        self._stopped = threading.Event()

    @property
    def http_url(self) -> str:
        """The gateway's address, as in ``http://127.0.0.1:8000``; empty when it was not asked for."""
        return self._http_url

    @property
    def triton_http(self) -> str:
        """The HTTP address of the first Triton, as tritonclient takes it; empty when it was not asked for."""
        return self.tritons[0].http

    @property
    def triton_grpc(self) -> str:
        """The gRPC address of the first Triton: host and port."""
        return self.tritons[0].grpc

    @property
    def metrics_url(self) -> str:
        """Where the metrics of the first Triton are read."""
        return self.tritons[0].metrics_url

    @property
    def triton_pid(self) -> int:
        """Process id of the first Triton server itself."""
        return self.tritons[0].service.pid

    @property
    def triton_log(self) -> Path:
        """The log of the first Triton."""
        return self.tritons[0].log

    def start_tritons(self) -> None:
        """Start every Triton, and wait until every model of each is ready.

        Raises:
            ServiceFailedError: a model does not load, or the time is up.
        """
        for triton in self.tritons:
            triton.launch()
        for triton in self.tritons:
            triton.wait_ready()

    def start_gateway(self, listening: socket.socket) -> None:
        """Start the gateway on a bound socket, and wait until it is ready.

        Raises:
            ServiceFailedError: it ended, or the time is up.
        """
        host, port = listening.getsockname()[:2]
        ports.listen(listening)
        self._gateway = Service(
            "gateway",
            [sys.executable, "-m", "gateway", "--fd", str(listening.fileno())],
            self.gateway_log,
            env={
                **self._env,
                "TRITOUCH_TRITON_GRPC": ",".join(triton.grpc for triton in self.tritons),
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
        """End the first Triton as a crash would (SIGKILL), and wait until its Python processes are gone too."""
        self.tritons[0].crash()

    def restart_triton(self) -> None:
        """Start the first Triton on the same ports, stopping it first if it runs. Raises as `start_tritons`."""
        self.tritons[0].restart()

    def watch(self, tell: Callable[[str], None], waits: Sequence[float] = WAITS) -> None:
        """Start each Triton again whenever it has ended, on the same ports, and ``tell`` so; until `stop`.

        One that ends after each of ``waits`` (seconds) again is left out, as long as another serves.

        Raises:
            ServiceFailedError: the gateway has ended, or the last of all Tritons; with the log lines that matter.
        """
        kept = [Kept(triton, tell, waits) for triton in self.tritons]
        while not self._stopped.wait(_WATCH_SECONDS):
            if self._gateway is not None:
                self._gateway.check_alive()
            lost = [one for one in kept if one.failure is not None]
            for one in lost:
                if len(kept) == 1 and one.failure is not None:
                    raise one.failure
                tell(f"{one.name} is left out: {one.failure}".splitlines()[0])
                kept.remove(one)

    def stop(self) -> None:
        """Stop the gateway, so that nothing new comes in, and then the Tritons; at once when this is interrupted."""
        self._stopped.set()
        stopping = [threading.Thread(target=triton.stop, daemon=True) for triton in self.tritons]
        try:
            if self._gateway is not None:
                self._gateway.stop()
            for thread in stopping:
                thread.start()
            for thread in stopping:
                thread.join()
        except BaseException:
            for triton in self.tritons:
                triton.kill()
            if self._gateway is not None:
                self._gateway.kill()
            raise


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
    require_right({**os.environ, **(env or {})})
    settings = settings or load_settings()
    with ExitStack() as stack:
        # The gateway's port first: a busy one is the commonest fault, and this finds it at once.
        listening = stack.enter_context(_gateway_socket(port)) if gateway else None
        checked = check_repository(repository or settings.repository)
        _check_memory(checked, settings, tell)
        run = stack.enter_context(run_folder(settings.run_folder))
        embedded = Embedded(settings, checked, run, env or {})
        stack.callback(embedded.stop)
        embedded.start_tritons()
        if listening is not None:
            embedded.start_gateway(listening)
            # The gateway holds it now. Were it open here too, a dead gateway's clients would wait for ever.
            listening.close()
        yield embedded


def _check_memory(repository: Path, settings: Settings, tell: Callable[[str], None]) -> None:
    remove_stale_shm()
    servers = len(_gpus(settings))
    missing = shared_memory_missing(repository, settings.triton_shm_bytes, servers)
    if missing:
        raise EmbeddedError(missing)
    short = memory_short(repository, servers)
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
    return own if own and float(own) < longest else str(longest)


def _gpus(settings: Settings) -> list[str | None]:
    """The GPU of each Triton that the settings ask for, None for all that there are. Raises EmbeddedError."""
    try:
        gpus: list[str | None] = [one.uuid for one in chosen(settings.gpus)] if settings.gpus.strip() else []
    except ValueError as error:
        raise EmbeddedError(f"TRITOUCH_GPUS: {error}") from None
    return [gpu for gpu in gpus or [None] for _ in range(settings.triton_replicas)]


def _replicas(shared: Shared) -> list[Replica]:
    """The Tritons that the settings ask for, not started yet. Raises EmbeddedError."""
    gpus = _gpus(shared.settings)
    every = listening(shared.settings, len(gpus))
    names = [("Triton", "")] if len(gpus) == 1 else [(f"Triton {number}", f"-{number}") for number in range(len(gpus))]
    return [Replica(shared, own, *name, gpu) for own, name, gpu in zip(every, names, gpus, strict=True)]
