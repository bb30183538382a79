"""Opens httpx's clients, which read proxies and certificates from the environment, and fail at each in another way."""

from __future__ import annotations

import os
from typing import Any, Final, TypeVar
from urllib.request import getproxies

import httpx

from tritouch.errors import UsageError

_FAILURES: Final = (ImportError, ValueError, httpx.InvalidURL)
T = TypeVar("T", httpx.Client, httpx.AsyncClient)


def opened(kind: type[T], settings: dict[str, Any]) -> T:
    """A client of this kind. Raises `UsageError`, by the name of the variable that httpx cannot use, not by its value:
    a proxy's may hold a password."""
    try:
        return kind(**settings)
    except OSError as error:
        raise UsageError(f"{_certificates(error)}: {error.strerror or error}") from None
    except _FAILURES:
        problem = _proxies()
        if problem is None:
            raise
        raise problem from None


def _certificates(error: OSError) -> str:
    """The variable, by httpx's order; Python tells the file's name of none but the last."""
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR") if error.filename is None else ("SSLKEYLOGFILE",)
    return next((name for name in names if os.environ.get(name)), "certificates")


def _proxies() -> UsageError | None:
    """What is wrong with the first that httpx fails at, each tried by itself."""
    found = getproxies()
    for scheme in ("http", "https", "all"):
        address = found.get(scheme, "")
        try:
            if address:
                proxy = address if "://" in address else f"http://{address}"
                httpx.Client(proxy=proxy, trust_env=False, verify=False).close()  # noqa: S501  # it sends nothing
        except ImportError:
            return UsageError(f"{_variable(scheme)}: a SOCKS proxy needs `pip install httpx[socks]`")
        except _FAILURES:
            return UsageError(f"{_variable(scheme)}: give the proxy's address, as http://localhost:3128")
    if found.get("no"):
        return UsageError(f"{_variable('no')}: give names of hosts, as localhost,example.com,::1")
    return None


def _variable(scheme: str) -> str:
    """As it is written; small letters come first."""
    small = f"{scheme}_proxy"
    return small if os.environ.get(small) else small.upper()
