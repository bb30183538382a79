"""What a failed gRPC call means to the caller.

The model repository's errors hold a token `tritouch:CODE` somewhere in their text; what follows it may quote others.
Only the first code is believed, and only together with the gRPC status that belongs to it. Of the text around it only
`_SAID` is for the public; of an edit that Triton could not do it is the cause, which `loggable` makes fit for the log.
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
    "size_unavailable": "size",
    "generations_unavailable": None,
    "picture_refused": None,
    "mask_invalid": "mask",
    "negative_prompt_unavailable": "negative_prompt",
}
_SAID: Final = {
    "unknown_model": re.compile(r"no adapter is called '[A-Za-z0-9][A-Za-z0-9_.-]{0,63}'", re.ASCII),
    "steps_unavailable": re.compile(r"the nearest number that works is [0-9]{1,3}"),
    "size_unavailable": re.compile(
        r"the answer may have at most [0-9]{1,15} pixels"
        r"|the longer side may be at most [0-9]{1,15}(?:\.[0-9]{1,3})? times the shorter one"
        r"|each side must be [0-9]{1,15} to [0-9]{1,15} pixels"
        r"|a jpeg has at most [0-9]{1,15} pixels a side"
    ),
    "mask_invalid": re.compile(
        r"the mask is not a PNG with an alpha channel"
        r"|the mask is broken"
        r"|the mask has more pixels than a PNG may have: give one half as wide and high"
        r"|the mask must be as large as the first image: [0-9]{1,5} x [0-9]{1,5}( or [0-9]{1,5} x [0-9]{1,5})?"
        r"|the mask has no transparent pixel: nothing would be edited"
        r"|a mask needs an image"
        r"|with a mask, size must have the picture's aspect"
    ),
    "too_many_images": re.compile(r"this model edits at most (?:one image|[0-9]{1,3} images)"),
    "parameter_invalid": re.compile(
        r"negative_prompt: needs guidance_scale above 1(?: and image_guidance_scale of at least 1)?"
    ),
    "prompt_invalid": re.compile(
        r"(?:negative_)?prompt: (?:has [0-9]{1,6} tokens, at most [0-9]{1,6} are read"
        r"|leave <\|image_pad\|> out, which stands for a picture)"
    ),
    "edit_too_large": re.compile(
        r"[0-9]{1,15} pictures are asked for, and [0-9]{1,15} can be made"
        r"|the edit needs [0-9]{1,15} rows and [0-9]{1,15} tokens a call, "
        r"and a call holds [0-9]{1,15} rows and [0-9]{1,15} tokens"
    ),
    "image_too_large": re.compile(
        r"an image(?:'s longer side| of this kind)? may (?:have|be) at most [0-9]{1,15} "
        r"(?:bytes|pixels|times its shorter one)"
    ),
}
"""What of the text around a code is for the public all the same: fixed words, numbers, and a name of few letters."""
MAX_CAUSE: Final = 500
_NOT_PLAIN: Final = re.compile(r"(?:[^ -~\s]|\\(?:x..|u....|U........))+")
_WORD: Final = re.compile(r"[^\W_]+")
_DATA: Final = re.compile(r"[A-Za-z0-9+/=]{64,}")
_PASSING: Final = re.compile(
    r"Stub process .{0,200} is not healthy"  # it was killed; Triton is about to be ended and started anew
    r"|unknown model: |is not ready|Server not ready|stopped accepting new|server is stopping"  # Triton stops
    r"|shared memory pool|No space left on device|Unable to allocate |MemoryError|bad_alloc"
    r"|Internal error from Core"  # gRPC's own: a balancer with nobody behind it ended a stream at once
)
"""What an upstream failure says that is nobody's fault, and passes: the same edit can be done later."""
BUSY_CODES: Final = {
    "queue_full": (grpc.StatusCode.UNAVAILABLE, "queue_full"),
    "expired": (grpc.StatusCode.INTERNAL, "deadline_exceeded"),
}
"""The status that each belongs to, by which proxies tell them apart, and what it is to the caller."""
ELSEWHERE: Final = frozenset({"unavailable", "queue_full"})
"""What one Triton could not do, and another may: nothing is wrong with the edit, and its time is not over."""


def problem_of(status: grpc.StatusCode, details: str) -> PublicError:
    """The public problem of an upstream failure: its gRPC status and its (private) text."""
    found = _TOKEN.search(details)
    code = found[1] if found else ""
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return PublicError("deadline_exceeded")
    belongs, public = BUSY_CODES.get(code, (None, ""))
    if status is belongs:
        return PublicError(public)
    if status is grpc.StatusCode.UNAVAILABLE:
        return PublicError("unavailable")
    if status is grpc.StatusCode.INVALID_ARGUMENT and code in CALLER_CODES:
        return _fault(code, details)
    passing = status in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.CANCELLED) or _PASSING.search(details)
    return PublicError("unavailable" if passing else "edit_failed", cause=f"{status.name}: {details}")


def _fault(code: str, details: str) -> PublicError:
    """The caller's own fault, with what of `details` is for the public; of a field that it names, about that field."""
    said = _SAID[code].search(details) if code in _SAID else None
    if said is None:
        return PublicError(code, param=CALLER_CODES[code])
    field, colon, _ = said[0].partition(": ")
    if colon and field.isidentifier():
        return PublicError(code, param=field, message=f"{said[0]}.")
    message = f"{KINDS[code].message} {said[0][0].upper()}{said[0][1:]}."
    return PublicError(code, param=CALLER_CODES[code], message=message)


def problem_in_band(details: str) -> PublicError:
    """The public problem of an upstream failure that came without a status, as a stopping Triton's streams do.

    A code that is believed has only one status that it belongs to.
    """
    found = _TOKEN.search(details)
    code = found[1] if found else ""
    if code in CALLER_CODES:
        return problem_of(grpc.StatusCode.INVALID_ARGUMENT, details)
    status, _ = BUSY_CODES.get(code, (grpc.StatusCode.UNKNOWN, ""))
    return problem_of(status, details)


def loggable(cause: str, prompt: str) -> str:
    """`cause` on one line of at most `MAX_CAUSE` plain characters, without the prompt's words and without data.

    Upstream may quote what it was given, whole or cut or escaped: so no word of the prompt is left, nothing beyond
    ASCII, and nothing as long as encoded pictures are.
    """
    said = {word.lower() for word in _WORD.findall(prompt) if len(word) > 2}

    def kept(word: re.Match[str]) -> str:
        return "..." if word[0].lower() in said else word[0]

    plain = _DATA.sub("...", _NOT_PLAIN.sub("...", cause[: 4 * MAX_CAUSE]))
    return " ".join(_WORD.sub(kept, plain).split())[:MAX_CAUSE]
