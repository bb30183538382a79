"""Around every request: its id, its one log line, its metrics, and the answer when all else failed.

What is refused before it is a request has its line and its metrics, too.

A plain ASGI wrapper, because Starlette's `BaseHTTPMiddleware` would hide that a caller has left.
"""

import asyncio
import re
import time
import uuid
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import PublicError, render
from gateway.metrics import NO_ROUTE, Metrics

ID_HEADER: Final = "X-Request-Id"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_QUIET: Final = ("/livez", "/readyz", "/metrics")


class Observed:
    """`app` with all of that around it. Leaves `request_id` in the request's state, and reads `reason` from there."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._log = structlog.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        given = Headers(scope=scope).get(ID_HEADER, "")
        state = scope.setdefault("state", {})
        state["request_id"] = given if _ID.fullmatch(given) else uuid.uuid4().hex
        status = 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = state["request_id"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except asyncio.CancelledError:  # by uvicorn alone, when it stops and waits no longer; the task ends here
            if not status:
                state["reason"] = "shutting_down"
                await render(PublicError("shutting_down"))(scope, receive, sent)
        except Exception:  # noqa: BLE001 - the last net: whatever it is, the caller gets JSON
            self._log.exception("failure", request_id=state["request_id"])
            if not status:
                state["reason"] = "internal_error"
                await render(PublicError("internal_error"))(scope, receive, sent)
        self._done(scope, status, time.perf_counter() - start)

    def _done(self, scope: Scope, status: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path", NO_ROUTE)
        reason = scope["state"].get("reason", "ok")
        self._metrics.answered(path, status, reason, seconds)
        log = self._log.debug if path in _QUIET else self._log.info
        log(
            "request",
            request_id=scope["state"]["request_id"],
            route=path,
            status=status,
            reason=reason,
            seconds=round(seconds, 4),
        )


def refused(problem: PublicError, request_id: str, metrics: Metrics) -> None:
    """Tell of an answer to what was no request yet, or no whole one."""
    metrics.refused(problem.kind.status, problem.code)
    structlog.get_logger().info(
        "request", request_id=request_id, route=NO_ROUTE, status=problem.kind.status, reason=problem.code
    )
