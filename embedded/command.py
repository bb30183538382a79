"""Triton's command line, hardened for one fixed repository, and its supervisor's: in containers and without them.

As NVIDIA's guide for secure deployment says, nothing of the server can be changed, and no client's shared memory is
read. Needs nothing but the standard library: in Triton's image this is all there is of ``embedded``.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backends.machine import processors

if TYPE_CHECKING:
    from collections.abc import Sequence

CACHE_BYTES = 64 << 20
SHM_BYTES = 8 << 20
PYTHON_PROCESS = "triton_python_backend_stub"
"""The program of Triton's Python processes, one for each instance of a Python model."""
PORTS_APART = 10
"""Tritons that serve side by side listen on ports that are so far apart."""
END_SECONDS = 10
"""On top of the time that requests in flight get: for Triton to unload its models and end."""

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_PRIVATE = Path(__file__).with_name("private.py")

_LOOPBACK = "127.0.0.1"
# A model's import of torch on a busy machine takes longer than Triton's default of 30 s.
_STUB_SECONDS = 300
# Calls that one Python model may have under way: `edit` has one for each edit that waits, and one to cancel by. With
# Triton's default of 32, as many waiting edits would have let no cancellation through.
_CALLS = 128
# Models that are loaded at once, where there are as many processors. Triton gives up a Python process that does not say
# for a second that it lives, and then waits for its end, for ever: seen where engines that make their first calls left
# it no processor.
_MOST_LOADING = 4
# Protocol parts that nobody needs: reading other processes' shared memory, and changing the server.
_CLOSED_APIS = ("shared-memory", "model-repository", "trace", "logging")


@dataclass(frozen=True)
class TritonPorts:
    """The ports of one server."""

    http: int | None
    """None for no HTTP at all."""
    grpc: int
    metrics: int


@dataclass(frozen=True)
class TritonOptions:
    """All in which one server differs from another."""

    server: str
    """The program, by its path or for the search path."""
    repository: Path
    host: str
    """Address that the ports of gRPC and metrics are bound to; that of HTTP is bound to the loopback address."""
    ports: TritonPorts
    exit_seconds: int
    """How long requests in flight may take to finish after SIGTERM."""
    cache_bytes: int = CACHE_BYTES
    """Size of the response cache, used by models whose config asks for it; 0 for none."""
    shm_bytes: int = SHM_BYTES
    """Shared memory a Python model instance starts with and grows by."""
    shm_prefix: str = ""
    """How the names of that shared memory begin; empty for Triton's own way."""
    backends: Path | None = None
    """The backend directory; None for the installation's."""
    caches: Path | None = None
    """The folder of cache libraries; None for the installation's."""
    traces_url: str = ""
    """Where spans are sent, by OTLP over HTTP; empty for none."""
    traces_delay: str = ""
    """Milliseconds that spans are gathered for; empty for Triton's own 5000."""


def command_line(options: TritonOptions) -> list[str]:
    """The program and its arguments."""
    return [
        options.server,
        f"--model-repository={options.repository}",
        *hardening_flags(),
        f"--exit-timeout-secs={options.exit_seconds}",
        *_listening_flags(options),
        *_folder_flags(options),
        *_memory_flags(options),
        *_trace_flags(options),
        f"--backend-config=python,stub-timeout-seconds={_STUB_SECONDS}",
        f"--backend-config=python,thread-pool-size={_CALLS}",
        f"--model-load-thread-count={min(_MOST_LOADING, processors())}",
    ]


def supervised(command: Sequence[str], grace: float, *options: str) -> list[str]:
    """The supervisor's program and arguments, which runs ``command`` and gives it ``grace`` seconds to stop."""
    return [sys.executable, "-I", "-S", str(_SUPERVISOR), "--grace", str(grace), *options, "--", *command]


def private(command: Sequence[str]) -> list[str]:
    """``command``, none of whose files and shared memory other users of the machine can read."""
    return [sys.executable, "-I", "-S", str(_PRIVATE), *command]


def hardening_flags() -> list[str]:
    """What keeps the server as it was started: the same flags everywhere, but for a key that each call draws."""
    # Closed parts open to whoever sends this header. All users of the machine can read it here; but nobody can send it:
    # HTTP/2, and so gRPC, has no blank in a header's name, HTTP/1 no line feed in its value.
    closed = f"{','.join(_CLOSED_APIS)}:tritouch key={secrets.token_hex(16)}\n"
    return [
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-on-error=true",
        f"--http-restricted-api={closed}",
        f"--grpc-restricted-protocol={closed}",
        "--allow-sagemaker=false",
        "--allow-vertex-ai=false",
    ]


def _listening_flags(options: TritonOptions) -> list[str]:
    places = {"grpc": (options.host, options.ports.grpc), "metrics": (options.host, options.ports.metrics)}
    if options.ports.http is not None:
        places["http"] = (_LOOPBACK, options.ports.http)
    flags = [(f"--{name}-address={host}", f"--{name}-port={port}") for name, (host, port) in places.items()]
    allowed = ["--allow-metrics=true", f"--allow-http={str('http' in places).lower()}"]
    return [*allowed, *(flag for pair in flags for flag in pair)]


def _folder_flags(options: TritonOptions) -> list[str]:
    folders = {"--backend-directory": options.backends, "--cache-directory": options.caches}
    return [f"{flag}={folder}" for flag, folder in folders.items() if folder]


def _memory_flags(options: TritonOptions) -> list[str]:
    flags = [f"--backend-config=python,shm-{what}-byte-size={options.shm_bytes}" for what in ("default", "growth")]
    if options.shm_prefix:
        flags.append(f"--backend-config=python,shm-region-prefix-name={options.shm_prefix}")
    if options.cache_bytes:
        flags.append(f"--cache-config=local,size={options.cache_bytes}")
    return flags


def _trace_flags(options: TritonOptions) -> list[str]:
    """Spans of the server's own, of requests that a `traceparent` makes a part of a trace, and of no others."""
    if not options.traces_url:
        return []
    settings = ["mode=opentelemetry", f"opentelemetry,url={options.traces_url}", "level=TIMESTAMPS", "rate=0"]
    if options.traces_delay:
        settings.append(f"opentelemetry,bsp_schedule_delay={options.traces_delay}")
    return [f"--trace-config={setting}" for setting in settings]
