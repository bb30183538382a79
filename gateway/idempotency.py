"""Tells whether two requests are the same one, sent again."""

import hashlib
import re
from typing import Final

from fastapi import Request

from gateway.errors import PublicError

_KEY: Final = re.compile(r"[!-~]{1,255}", re.ASCII)


def idempotency_key(request: Request) -> str:
    """The caller's `Idempotency-Key`, "" for none. Raises `PublicError("idempotency_key_invalid")`."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise PublicError("idempotency_key_invalid")
    return key or ""


def fingerprint(request: Request, body_digest: bytes) -> bytes:
    """Of the credentials, the idempotency key and the body: equal for the same request sent again."""
    credentials = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
    parts = (credentials, idempotency_key(request).encode(), body_digest)
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
