"""Requests as the routes know them: `HEAD` is a `GET`, whose body uvicorn leaves out; and a target is a path alone."""

import re
from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_AUTHORITY: Final = re.compile(rb"https?://[^/]+", re.IGNORECASE)


class Plain:
    """`app`, asked in one way only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = dict(scope)  # uvicorn looks at its own again
            if scope["method"] == "HEAD":
                scope["method"] = "GET"
            absolute = _AUTHORITY.match(scope["raw_path"])
            if absolute:
                path = scope["raw_path"][absolute.end() :] or b"/"
                scope |= {"raw_path": path, "path": unquote(path.decode("ascii"))}
        await self._app(scope, receive, send)
