"""Edits in JSON: Friendli's `image`, answered as Friendli does, and OpenAI's `images`, answered as OpenAI does."""

import base64
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import jiter
import orjson

from gateway import events, images, openai_answer, unserved
from gateway.call import Call, Source, edit_of, stream_of
from gateway.errors import PublicError
from gateway.openai_schemas import ImageEditBody
from gateway.pictures import Picture, own_of, used_of
from gateway.schemas import ContainerImageEditBody, given, validated
from gateway.tensors import Edit

IMAGES: Final = "images"
# Pictures hold none of the characters that begin or part values, and a prompt not as many. Without a bound, a body of
# `{},{},{},` would take twenty times its size in memory.
MAX_VALUES: Final = 20_000


def parse(content: bytes, content_type: str) -> Call:  # noqa: ARG001 - the same signature as the form's
    """The call in a JSON body, its images not yet decoded. Raises `PublicError`."""
    fields = fields_of(content)
    named = given(fields) if isinstance(fields, dict) else {}
    if "image" in named and IMAGES in named:
        raise PublicError("parameter_invalid", param=IMAGES, message="images: give image or images, not both.")
    return (_openais if IMAGES in named else _friendlis)(fields, hashlib.sha256(content).digest())


def fields_of(content: bytes) -> Any:
    """A body's JSON. Raises `PublicError`, which says nothing of what the parser says."""
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise PublicError("body_unreadable", message="The body has too many values.")
    try:
        return jiter.from_json(content, allow_inf_nan=False, catch_duplicate_keys=True)
    except (ValueError, TypeError):
        raise PublicError("body_unreadable", message="The body is not well-formed JSON.") from None


def _friendlis(fields: Any, digest: bytes) -> Call:
    unserved.check(fields, known=ContainerImageEditBody.model_fields)
    asked = validated(ContainerImageEditBody, fields)
    wanted = asked.response_format or "jpeg"
    edit = edit_of(asked, wanted)
    stream = stream_of(asked, partial(events.told, events.EDIT, wanted, lambda picture: picture.content, edit))
    sources, masks = _ascii(asked.images(), "image"), _ascii(asked.masks(), "mask")
    return Call(edit, sources, partial(answer, edit), digest, masks, stream)


def _openais(fields: Any, digest: bytes) -> Call:
    unserved.check(fields, known=ImageEditBody.model_fields)
    asked = validated(ImageEditBody, fields)
    edit = edit_of(asked, openai_answer.wanted(asked))
    content = partial(openai_answer.content, asked)
    stream = stream_of(asked, partial(events.told, events.EDIT, asked.output_format, content, edit))
    sources = _ascii([one.image_url for one in asked.images], IMAGES)
    masks = _ascii([asked.mask.image_url] if asked.mask else [], "mask")
    answer_of = partial(openai_answer.answer, asked, edit)
    return Call(edit, sources, answer_of, digest, masks, stream, asked.output_format, IMAGES)


def _ascii(texts: list[str], name: str) -> list[Source]:
    """`texts` again, when they are ASCII. Raises `PublicError`."""
    for text in texts:
        images.check_ascii(text, name)
    return [*texts]


def answer(edit: Edit, pictures: Sequence[Picture]) -> bytes:
    """Friendli's answer, with the picture's size and what it was made with beside it; of several, with all of them."""
    return orjson.dumps(answered(edit, pictures))


def answered(edit: Edit, pictures: Sequence[Picture]) -> dict[str, Any]:
    """The same as Python has it."""
    files = [base64.b64encode(picture.content).decode() for picture in pictures]
    several = [
        {"image": file, "seed": edit.seed_of(index), **own_of(picture)}
        for index, (file, picture) in enumerate(zip(files, pictures, strict=True))
    ]
    return {
        "image": files[0],
        **({"images": several} if len(files) > 1 else {}),
        "width": pictures[0].width,
        "height": pictures[0].height,
        "seed": edit.seed,
        **used_of(pictures),
    }
