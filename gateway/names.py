"""By which names a gateway may be asked. Knows nothing of who asks.

A page of any site can have its own name lead to this machine (DNS rebinding), and is then of the same origin as all
that answers there. What listens on loopback alone, and asks for no keys, would be open to it, but for the name.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import PublicError, render

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]*)?", re.ASCII | re.IGNORECASE)


class Named:
    """`app`, asked by one of `names` or by a name of loopback; by others it is not here.

    HTTP/1.0 may name nothing. No browser speaks it.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app, self._names = app, frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_known(Headers(scope=scope).get("host")):
            await self._app(scope, receive, send)
            return
        scope["state"]["reason"] = "host_unknown"
        await render(PublicError("host_unknown"))(scope, receive, send)

    def _is_known(self, host: str | None) -> bool:
        if host is None:
            return True
        name = name_of(host)
        return is_loopback(name) or name in self._names


def name_of(host: str) -> str:
    """The name or address in a `Host` header, in lower case, without port and brackets; "" where it is none."""
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").lower() if found else ""


def is_loopback(name: str) -> bool:
    """Whether a name or an address always means the machine that it is used on."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"
