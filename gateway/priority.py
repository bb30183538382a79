"""Whether a request is background work, which is done in what others leave free: the header `X-Priority`."""

from typing import Final

from fastapi import Request

from gateway.errors import PublicError

HEADER: Final = "X-Priority"
LOW: Final = "low"
NORMAL: Final = "normal"


def is_low(request: Request) -> bool:
    """Whether it says so. Raises `PublicError("parameter_invalid")` for what is no priority."""
    given = request.headers.get(HEADER, "").strip().lower()
    if given not in ("", LOW, NORMAL):
        raise PublicError("parameter_invalid", param=HEADER, message=f"{HEADER}: only {LOW} or {NORMAL} is served.")
    return given == LOW
