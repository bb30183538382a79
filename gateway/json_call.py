"""Friendli's way to ask for an edit: JSON in, JSON out."""

import base64
import hashlib
from functools import partial
from typing import Any, Final

import jiter
import orjson

from gateway import images, unserved
from gateway.call import Call, edit_of
from gateway.errors import PublicError
from gateway.schemas import ContainerImageEditBody, validated
from gateway.triton import Picture

# Pictures hold none of the characters that begin or part values, and a prompt not as many. Without a bound, a body of
# `{},{},{},` would take twenty times its size in memory.
MAX_VALUES: Final = 20_000


def parse(content: bytes, content_type: str) -> Call:  # noqa: ARG001 - the same signature as the form's
    """The call in a JSON body, its images not yet decoded. Raises `PublicError`."""
    fields = fields_of(content)
    unserved.check(fields)
    asked = validated(ContainerImageEditBody, fields)
    sources = asked.images()
    for source in sources:
        images.check_ascii(source)
    edit = edit_of(asked, asked.response_format or "jpeg")
    return Call(edit, [*sources], partial(answer, edit.seed), hashlib.sha256(content).digest())


def fields_of(content: bytes) -> Any:
    """A body's JSON. Raises `PublicError`."""
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise PublicError("body_unreadable", message="The body has too many values.")
    try:
        return jiter.from_json(content, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError:
        raise PublicError("body_unreadable", message="The body is not well-formed JSON.") from None


def answer(seed: int, picture: Picture) -> bytes:
    """Friendli's answer, with the picture's size and what it was made with beside it."""
    return orjson.dumps(answered(seed, picture))


def answered(seed: int, picture: Picture) -> dict[str, Any]:
    """The same as Python has it."""
    return {
        "image": base64.b64encode(picture.content).decode(),
        "width": picture.width,
        "height": picture.height,
        "seed": seed,
        **picture.used,
    }
