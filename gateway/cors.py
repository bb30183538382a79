"""What browsers ask before a page of another origin may use the API, and want to see in every answer.

Cookies are never allowed, so that any origin may be: whoever needs a token has to know it.
"""

import re
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY: Final = "*"
EXPOSED: Final = "Retry-After, X-Request-Id, X-Should-Retry"
METHODS: Final = "GET, HEAD, POST"
MAX_AGE_SECONDS: Final = 600
_NAMES: Final = re.compile(r"[A-Za-z0-9-]+( ?, ?[A-Za-z0-9-]+)*", re.ASCII)
_MAX_NAMES: Final = 2000


class Preflights:
    """`app`, with the answers to pages of `origins` that ask what they may. All others ask `app`."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            if "access-control-request-method" in headers and sharing(headers.get("origin", ""), self._origins):
                await _permission(headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Shared:
    """`app`, whose every answer, errors too, may be read by pages of `origins`."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin", "") if scope["type"] == "http" else ""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Origin")
                headers.update(sharing(origin, self._origins))
            await send(message)

        await self._app(scope, receive, sent)


def sharing(origin: str, origins: Sequence[str]) -> dict[str, str]:
    """The headers by which a page of `origin` may read an answer, if it is one of `origins`."""
    allowed = ANY if origin and ANY in origins else origin
    if allowed not in origins:
        return {}
    return {"Access-Control-Allow-Origin": allowed, "Access-Control-Expose-Headers": EXPOSED}


def sharing_early(origin: str, origins: Sequence[str]) -> dict[str, str]:
    """The same for an answer before a request is read, with what is known of its origin, which may be nothing."""
    known = origin or (origins[0] if len(origins) == 1 else ANY)
    return {"Vary": "Origin", **sharing(known, origins)} if origins else {}


def _permission(headers: Headers) -> Response:
    """The answer to a page that may. Any header is allowed: clients send many, and none of them does harm."""
    allowed = {"Access-Control-Allow-Methods": METHODS, "Access-Control-Max-Age": str(MAX_AGE_SECONDS)}
    names = headers.get("access-control-request-headers", "")
    if len(names) <= _MAX_NAMES and _NAMES.fullmatch(names):
        allowed["Access-Control-Allow-Headers"] = names
    return Response(status_code=204, headers=allowed | {"Vary": "Access-Control-Request-Headers"})
