"""Whether edits are traced. Imports nothing of OpenTelemetry unless they are.

Whoever starts the server has looked at what the variables hold: here it is only asked whether there is a collector.
"""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from jobs import Job, Request
from rows import Denoiser

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PARENT = ("traceparent", "tracestate")
"""Parameters of a request, by which it is a part of its caller's trace."""


class Tracing(Protocol):
    """Spans of edits. It is told of them by what they are made of, and the batcher knows nothing of it."""

    call: Callable[..., Any]
    """In the place of `calls.EditCall`."""

    def denoiser(self, denoiser: Denoiser) -> Denoiser:
        """The same, and each call is a step of its edits."""

    def submit(
        self,
        submit: Callable[[Request, Sequence[Job]], None],
        parent: Mapping[str, str],
        request: Request,
        jobs: Sequence[Job],
    ) -> None:
        """Submit a request, and make spans of its fate, in the trace that `parent` names. Raises as `submit`."""

    def close(self) -> None:
        """Send what is left, for a moment."""


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether a collector is named, and not turned off."""
    named = any(environ.get(name) for name in ENDPOINTS)
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return named and not off and environ.get("OTEL_TRACES_EXPORTER", "").strip() != "none"


def start(environ: Mapping[str, str]) -> Tracing | None:
    """None where edits are not traced."""
    return importlib.import_module("spans").Spans() if wanted(environ) else None


def parent(request: Any, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Whose trace a request is a part of: that of Triton's own span of it, else what its `parameters` say."""
    own = request.trace().get_context()
    given = json.loads(own) if own else parameters
    return {name: str(given[name]) for name in PARENT if name in given}
