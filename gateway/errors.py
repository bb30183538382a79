"""The one family of errors: each has a code, a status and a public text, all in one table.

Raised anywhere, rendered by `render` alone. A public text never holds input, upstream messages, addresses or paths.
The JSON is readable by Friendli's SDK (which shows the body) and OpenAI's (which reads `error`).
"""

from dataclasses import dataclass, field
from typing import Final

import orjson
from fastapi import Response

RETRY_SECONDS: Final = 1
RETRY: Final = {"Retry-After": str(RETRY_SECONDS)}
NO_RETRY: Final = {"x-should-retry": "false"}
CLOSE: Final = {"Connection": "close"}


@dataclass(frozen=True)
class Kind:
    """What an error code means to the caller: HTTP status, fixed public text, extra headers."""

    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)


KINDS: Final[dict[str, Kind]] = {
    "body_unreadable": Kind(400, "The body is not well-formed."),
    "unsupported_parameter": Kind(400, "The request has a field, or a value of a field, that is not served here."),
    "mask_invalid": Kind(400, "The mask cannot be used."),
    "negative_prompt_unavailable": Kind(400, "This model takes no negative prompt."),
    "unauthorized": Kind(401, "A valid bearer token is needed.", {"WWW-Authenticate": "Bearer"}),
    "not_found": Kind(404, "There is nothing at this path."),
    "generations_unavailable": Kind(
        404, "This model makes no pictures from text alone: send one to POST /v1/images/edits."
    ),
    "method_not_allowed": Kind(405, "This path does not take this method."),
    "body_too_slow": Kind(408, "The body took too long to arrive.", CLOSE),
    "body_too_large": Kind(413, "The body is larger than this server takes.", CLOSE),
    "unsupported_media_type": Kind(415, "Send application/json or multipart/form-data."),
    "host_unknown": Kind(421, "Requests do not come to this name here: see TRITOUCH_SERVER_NAMES."),
    "parameter_invalid": Kind(422, "A parameter has a value that cannot be used."),
    "prompt_invalid": Kind(422, "The prompt cannot be used."),
    "unknown_model": Kind(422, "There is no such model."),
    "image_unreadable": Kind(422, "An image is not a readable JPEG, PNG or WebP picture."),
    "image_too_large": Kind(422, "An image has more bytes or pixels than this server takes."),
    "too_many_images": Kind(422, "There are more images than this model takes."),
    "steps_unavailable": Kind(422, "The model's sampler cannot make this number of steps."),
    "size_unavailable": Kind(422, "The model does not make pictures of this size."),
    "picture_refused": Kind(422, "The picture was made, and this server's safety checker refuses it."),
    "edit_too_large": Kind(422, "The edit is larger than this server can ever run."),
    "image_url_unsupported": Kind(422, "This server takes no images by URL: send a data URL or base64."),
    "image_url_unusable": Kind(422, "An image could not be had from its URL."),
    "idempotency_key_invalid": Kind(422, "The Idempotency-Key is malformed."),
    "queue_full": Kind(429, "The server is busy. Try again shortly.", RETRY),
    "edit_failed": Kind(500, "The edit failed.", NO_RETRY),
    "internal_error": Kind(500, "Something went wrong in this server.", NO_RETRY),
    "unavailable": Kind(503, "The model is not available now. Try again shortly.", RETRY),
    "shutting_down": Kind(503, "The server is shutting down. Try again shortly.", RETRY),
    "deadline_exceeded": Kind(504, "The edit took longer than this server allows."),
}


class PublicError(Exception):
    """An error for the caller. `message` replaces the code's own text and must be fit for the public.

    `cause`: what the operator should know of it, as it came from upstream; never for the public.
    """

    def __init__(self, code: str, *, message: str | None = None, param: str | None = None, cause: str = "") -> None:
        self.code = code
        self.kind = KINDS[code]
        self.message = message or self.kind.message
        self.param = param
        self.cause = cause
        super().__init__(code)


class CallerGoneError(Exception):
    """The caller's connection is lost: nobody will read an answer."""


def category(status: int) -> str:
    """OpenAI's `type` of an error with this HTTP status."""
    if status >= 500:
        return "server_error"
    return {401: "authentication_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")


def body(problem: PublicError) -> bytes:
    """The JSON of `problem`: `{"error": {message, type, param, code}, "detail": message}`."""
    error = {
        "message": problem.message,
        "type": category(problem.kind.status),
        "param": problem.param,
        "code": problem.code,
    }
    return orjson.dumps({"error": error, "detail": problem.message})


def render(problem: PublicError) -> Response:
    """The HTTP answer of `problem`."""
    content = body(problem)
    return Response(content, problem.kind.status, problem.kind.headers, "application/json")
