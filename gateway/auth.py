"""Who is asking: bearer tokens, several, compared in constant time, before a body is read; or else addresses."""

import hashlib
import hmac
from collections.abc import Sequence
from ipaddress import IPv6Address

from fastapi import Request
from pydantic import SecretStr

from gateway.errors import PublicError


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _credentials(request: Request) -> tuple[str, str]:
    """The scheme, in lower case, and the token."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return scheme.lower(), token.strip()


class Keys:
    """The tokens that are let in; with none, everyone is."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._digests = [_digest(key.get_secret_value()) for key in keys]

    async def check(self, request: Request) -> None:
        """Raises `PublicError("unauthorized")` unless the request carries one of the tokens."""
        if not self._digests:
            return
        scheme, token = _credentials(request)
        given = _digest(token)
        # All are compared, so that time does not tell which one was near.
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        if scheme != "bearer" or not any(matches):
            raise PublicError("unauthorized")

    def caller(self, request: Request) -> str:
        """Who asks: the same for all requests with one token or, where none is needed, from one address.

        Of IPv6, whose users have whole networks, an address is its first 64 bits. On a socket of both kinds an address
        of IPv4 comes as one of IPv6 that holds it.
        """
        if self._digests:
            return _digest(_credentials(request)[1]).hex()
        host = request.client.host if request.client else ""
        if ":" not in host:
            return host
        address = IPv6Address(host)
        return str(address.ipv4_mapped) if address.ipv4_mapped else address.packed[:8].hex()
