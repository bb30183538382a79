"""Bearer tokens: several, compared in constant time, before a body is read."""

import hashlib
import hmac
from collections.abc import Sequence

from fastapi import Request
from pydantic import SecretStr

from gateway.errors import PublicError


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


class Keys:
    """The tokens that are let in; with none, everyone is."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._digests = [_digest(key.get_secret_value()) for key in keys]

    async def check(self, request: Request) -> None:
        """Raises `PublicError("unauthorized")` unless the request carries one of the tokens."""
        if not self._digests:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = _digest(token.strip())
        # All are compared, so that time does not tell which one was near.
        matches = [hmac.compare_digest(given, known) for known in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise PublicError("unauthorized")
