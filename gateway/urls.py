"""One strict reading of a URL, which both the checks and the connection go by.

Far stricter than browsers: ASCII alone, no credentials, no back slashes, no address in any but its plain spelling.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

MAX_URL: Final = 4096
_PORTS: Final = {"http": 80, "https": 443}
_FORM: Final = re.compile(  # each character can be of one part alone: else 4096 of them take half a second
    r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:/[!$-;=@-Z_a-z~]*)?(?:\?[!$-;=?-Z\[\]_a-z~]*)?)(?:#[!-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
# Names that only mean something inside a network; the addresses they lead to are checked all the same.
_INNER: Final = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "arpa", "onion")


class BadUrlError(ValueError):
    """The URL is not one to fetch. Says nothing of why: neither must the answer."""


@dataclass(frozen=True)
class Url:
    """A URL's parts. `host`: a lower-case name, or an address without brackets. `target`: path and query."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What goes into the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse(text: str) -> Url:
    """The parts of an absolute URL. Raises `BadUrlError`."""
    found = _FORM.fullmatch(text) if len(text) <= MAX_URL else None
    if found is None:
        raise BadUrlError
    scheme: Literal["http", "https"] = "https" if found["scheme"].lower() == "https" else "http"
    port = int(found["port"] or _PORTS[scheme])
    target = found["target"]
    return Url(scheme, _host(found["host"].lower()), port, target if target.startswith("/") else "/" + target)


def is_inner_name(host: str) -> bool:
    """Whether `host` is a name without a dot, or below a domain that no public server has."""
    return ":" not in host and ("." not in host or host.rsplit(".", 1)[1] in _INNER)


def _host(text: str) -> str:
    try:
        if text.startswith("["):
            return str(IPv6Address(text[1:-1]))
        labels = text.split(".")
        if labels[-1][:1].isdigit():  # Resolvers read 127.1, 2130706433 and 0x7f000001 as addresses: only one form is.
            return str(IPv4Address(text))
    except ValueError:
        raise BadUrlError from None
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise BadUrlError
    return text
