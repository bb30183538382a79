"""Friendli's way to ask for an edit: JSON in, JSON out."""

import base64
import hashlib
from functools import partial

import jiter
import orjson

from gateway.call import Call
from gateway.errors import PublicError
from gateway.schemas import ContainerImageEditBody, edit_of, validated
from gateway.triton import Picture


def parse(content: bytes, content_type: str) -> Call:  # noqa: ARG001 - the same signature as the form's
    """The call in a JSON body, its images not yet decoded. Raises `PublicError`."""
    try:
        fields = jiter.from_json(content, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError:
        raise PublicError("body_unreadable", message="The body is not well-formed JSON.") from None
    asked = validated(ContainerImageEditBody, fields)
    edit = edit_of(asked, asked.response_format or "jpeg")
    return Call(edit, [*asked.images()], partial(answer, edit.seed), hashlib.sha256(content).digest())


def answer(seed: int, picture: Picture) -> bytes:
    """Friendli's answer, with the picture's size and the seed beside it."""
    return orjson.dumps(
        {
            "image": base64.b64encode(picture.content).decode(),
            "width": picture.width,
            "height": picture.height,
            "seed": seed,
        }
    )
