"""Triton's command line and environment, hardened for one fixed repository on one machine."""

from __future__ import annotations

import os
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backends.compatibility import incompatibilities
from embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedded.settings import Settings
    from embedded.wheel import TritonFiles

HOST = "127.0.0.1"
SERVED = ("openvino", "tensorrt_rtx")
"""Engine kinds that the embedded Triton has a backend for."""
READY_PATH = "/v2/health/ready"

# On top of the time that requests in flight get: for Python models to finalize.
UNLOAD_SECONDS = 5.0
# A model's import of torch on a busy machine takes longer than Triton's default of 30 s.
_STUB_SECONDS = 300
# Protocol parts that nobody needs here: reading other processes' shared memory, and changing the server.
_CLOSED_APIS = ("shared-memory", "model-repository", "trace", "logging")
# Memory of engines in huge pages, where the kernel gives them: it makes OpenVINO's calls a little shorter.
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
_STEP = re.compile(r"""^[^#\n]*\bmodel_name\s*:\s*["']([^"']+)""", re.MULTILINE)


@dataclass(frozen=True)
class TritonPorts:
    """The ports of one server."""

    http: int
    grpc: int
    metrics: int


def check_repository(repository: Path) -> Path:
    """The repository's absolute path, if it holds at least one model.

    Raises:
        EmbeddedError: it does not exist, holds no model, lacks one that its ensembles need, or has engines that were
            made for another machine; says what to do.
    """
    hint = "run `make export` to build it"
    if not repository.is_dir():
        raise EmbeddedError(f"there is no model repository at {repository}: {hint}")
    if not any(repository.glob("*/config.pbtxt")):
        raise EmbeddedError(f"the model repository {repository} holds no model: {hint}")
    missing = sorted(_steps(repository) - {entry.name for entry in repository.iterdir()})
    if missing:
        raise EmbeddedError(f"the model repository {repository} has no {', '.join(missing)} yet: {hint}")
    dangling = sorted(entry.name for entry in repository.iterdir() if entry.is_symlink() and not entry.exists())
    if dangling:
        raise EmbeddedError(f"{repository / dangling[0]} leads nowhere: {hint}")
    reasons = incompatibilities(repository, SERVED)
    if reasons:
        raise EmbeddedError("; ".join(reasons))
    return repository.resolve()


def _steps(repository: Path) -> set[str]:
    """Names of the models that the repository's ensembles are made of."""
    configs = (path.read_text(errors="replace") for path in repository.glob("*/config.pbtxt"))
    return {name for config in configs for name in _STEP.findall(config)}


def command_line(
    files: TritonFiles,
    *,
    repository: Path,
    backends: Path,
    ports: TritonPorts,
    settings: Settings,
    shm_prefix: str,
) -> list[str]:
    """The program and arguments that serve ``repository`` on the loopback address."""
    arguments = [
        str(files.server),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--cache-directory={files.caches}",
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-on-error=true",
        f"--exit-timeout-secs={max(1, round(settings.stop_seconds))}",
        *_protocols(ports),
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        f"--backend-config=python,shm-default-byte-size={settings.triton_shm_bytes}",
        f"--backend-config=python,shm-growth-byte-size={settings.triton_shm_bytes}",
        f"--backend-config=python,stub-timeout-seconds={_STUB_SECONDS}",
    ]
    if settings.triton_cache_bytes:
        arguments.append(f"--cache-config=local,size={settings.triton_cache_bytes}")
    return arguments


def _protocols(ports: TritonPorts) -> list[str]:
    # Closed parts open to whoever knows this, and nobody does.
    closed = f"{','.join(_CLOSED_APIS)}:tritouch-key={secrets.token_hex(16)}"
    return [
        f"--http-address={HOST}",
        f"--http-port={ports.http}",
        f"--http-restricted-api={closed}",
        f"--grpc-address={HOST}",
        f"--grpc-port={ports.grpc}",
        f"--grpc-restricted-protocol={closed}",
        "--allow-metrics=true",
        f"--metrics-address={HOST}",
        f"--metrics-port={ports.metrics}",
        "--allow-sagemaker=false",
        "--allow-vertex-ai=false",
    ]


def environment(files: TritonFiles, base: Mapping[str, str]) -> dict[str, str]:
    """``base`` with what the server and its Python processes need: their libraries, this Python, huge pages."""
    libraries = [str(folder) for folder in files.library_folders]
    present = base.get("LD_LIBRARY_PATH")
    path, tunables = base.get("PATH", os.defpath), base.get("GLIBC_TUNABLES")
    return {
        **base,
        "LD_LIBRARY_PATH": ":".join([*libraries, *([present] if present else [])]),
        # The Python stub asks the first python3 on the path where its packages are.
        "PATH": f"{Path(sys.executable).parent}:{path}",
        "PYTHONUNBUFFERED": "1",
        "GLIBC_TUNABLES": ":".join([*([tunables] if tunables else []), _HUGE_PAGES]),
    }
