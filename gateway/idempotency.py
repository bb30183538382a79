"""Tells whether two requests are the same one, sent again."""

import hashlib
import re
from typing import Final

from fastapi import Request

from gateway.errors import PublicError

HEADER: Final = "Idempotency-Key"
_KEY: Final = re.compile(r"[!-~]{1,255}", re.ASCII)


def idempotency_key(request: Request) -> str:
    """The caller's `Idempotency-Key`, "" for none, or an empty one. Raises `PublicError("idempotency_key_invalid")`."""
    key = request.headers.get(HEADER, "")
    if key and not _KEY.fullmatch(key):
        raise PublicError("idempotency_key_invalid")
    return key


def fingerprint(request: Request, body_digest: bytes) -> bytes:
    """Of the credentials, the idempotency key and the body: equal for the same request sent again."""
    credentials = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
    parts = (credentials, idempotency_key(request).encode(), body_digest)
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
