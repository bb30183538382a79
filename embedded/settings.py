"""Settings of the embedded servers, each read from ``TRITOUCH_`` and its name in capitals.

The gateway reads its own settings; of them, this module knows an edit's deadline alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from embedded.command import CACHE_BYTES, SHM_BYTES
from embedded.errors import EmbeddedError
from embedded.triton_settings import judged
from gateway.settings import Seconds
from gateway.settings import Settings as GatewaySettings

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent

_PREFIX = "TRITOUCH_"

# 0 asks for a free port.
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """Where the repository and the logs are, where Triton listens, how long to wait."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    repository: Path = ROOT / "model_repository"
    """The model repository to serve."""
    run_folder: Path | None = None
    """Parent folder of the logs of each run, which are then kept; by default a temporary folder, kept on failure."""
    gpus: str = ""
    """One Triton for each GPU: ``all``, or numbers with commas as `nvidia-smi` has them; empty: one that sees all."""
    triton_replicas: Annotated[int, Field(gt=0)] = 1
    """Tritons for each GPU or, without ``gpus``, all there are."""
    triton_http_port: Port | None = None
    """None for no HTTP: the gateway speaks gRPC."""
    triton_grpc_port: Port = 0
    triton_metrics_port: Port = 0
    triton_cache_bytes: int = CACHE_BYTES
    """Size of Triton's response cache, used by models whose config asks for it; 0 for none."""
    triton_shm_bytes: int = SHM_BYTES
    """Shared memory a Python model instance starts with and grows by."""
    triton_start_seconds: Seconds = 300
    gateway_start_seconds: Seconds = 60
    edit_timeout_seconds: Seconds = GatewaySettings.model_fields["edit_timeout_seconds"].default
    """The gateway's deadline of one edit."""
    stop_seconds: Seconds | None = None
    """How long requests in flight may take to finish when stopping; by default as long as one edit."""

    @property
    def drain_seconds(self) -> float:
        """How long requests in flight may take to finish when stopping."""
        return self.edit_timeout_seconds if self.stop_seconds is None else self.stop_seconds


def require_right(env: Mapping[str, str]) -> None:
    """Raises EmbeddedError, naming the variable, where Triton or its models would find one of ``env`` wrong."""
    try:
        judged(env)
    except ValueError as error:
        raise EmbeddedError(str(error)) from None


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        EmbeddedError: a value is out of its bounds or not of its type; names the variable.
    """
    require_right(os.environ)
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = _PREFIX + str(first["loc"][0]).upper()
        raise EmbeddedError(f"{name}={first['input']}: {first['msg']}") from None
