"""What a failed gRPC call means to the caller.

The model repository's errors hold a token `tritouch:CODE` somewhere in their text; what follows it may quote others.
Only the first code is believed, and only together with the gRPC status that belongs to it; the text around it never
leaves this module.
"""

import re
from typing import Final

import grpc

from gateway.errors import KINDS, PublicError

_TOKEN: Final = re.compile(r"tritouch:([a-z_]+)")
CALLER_CODES: Final = {
    "image_unreadable": "image",
    "image_too_large": "image",
    "too_many_images": "image",
    "prompt_invalid": "prompt",
    "unknown_model": "model",
    "parameter_invalid": None,
    "steps_unavailable": "num_inference_steps",
    "edit_too_large": None,
}
_NEAREST: Final = re.compile(r"the nearest number that works is ([0-9]{1,3})")
BUSY_CODES: Final = {"expired": "deadline_exceeded", "queue_full": "queue_full"}


def problem_of(status: grpc.StatusCode, details: str) -> PublicError:
    """The public problem of an upstream failure: its gRPC status and its (private) text."""
    found = _TOKEN.search(details)
    code = found[1] if found else ""
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return PublicError("deadline_exceeded")
    if status is grpc.StatusCode.UNAVAILABLE:
        return PublicError(BUSY_CODES.get(code, "unavailable"))
    if status is grpc.StatusCode.INVALID_ARGUMENT and code in CALLER_CODES:
        nearest = _NEAREST.search(details) if code == "steps_unavailable" else None
        more = f"{KINDS[code].message} The nearest that works is {nearest[1]}." if nearest else None
        return PublicError(code, param=CALLER_CODES[code], message=more)
    return PublicError("edit_failed")
