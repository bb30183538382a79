"""OpenAI's way to ask for an edit: a form in, `data[].b64_json` out. What is not served is refused, not ignored."""

import re
from functools import partial
from typing import Final

from gateway import events, openai_answer, unserved
from gateway.call import Call, Source, edit_of, stream_of
from gateway.errors import PublicError
from gateway.multipart import Part, digest, parts_of
from gateway.openai_schemas import ImageEditForm
from gateway.schemas import validated

IMAGES: Final = ("image", "image[]")
MASK: Final = "mask"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}(\[\])?", re.ASCII | re.IGNORECASE)  # one that may be repeated


def parse(content: bytes, content_type: str) -> Call:
    """The call in a form. Raises `PublicError`."""
    parts = parts_of(content, content_type)
    form = validated(ImageEditForm, _texts(parts))
    wanted = openai_answer.wanted(form)
    files = [part for part in parts if not part.is_nothing]
    sources: list[Source] = [bytes(part.content) for part in files if part.name in IMAGES]
    masks: list[Source] = [bytes(part.content) for part in files if part.name == MASK]
    if not sources:
        raise PublicError("parameter_invalid", param="image", message="image: give at least one file.")
    if len(masks) > 1:
        raise _twice(MASK)
    edit = edit_of(form, wanted)
    file = partial(openai_answer.content, form)
    stream = stream_of(form, partial(events.told, events.EDIT, form.output_format, file, edit))
    answer = partial(openai_answer.answer, form, edit)
    return Call(edit, sources, answer, digest(parts), masks, stream, form.output_format)


def _texts(parts: list[Part]) -> dict[str, str]:
    """The fields that are text; empty ones are none. Raises `PublicError`: unknown, there twice, or not UTF-8."""
    texts: dict[str, str] = {}
    for part in parts:
        if part.name in (*IMAGES, MASK) or not part.content:
            continue
        if part.name not in ImageEditForm.model_fields:
            raise unserved.refusal(part.name) if _NAME.fullmatch(part.name) else PublicError("unsupported_parameter")
        if part.name in texts:
            raise _twice(part.name)
        try:
            texts[part.name] = part.content.decode()
        except UnicodeDecodeError:
            raise PublicError("body_unreadable", param=part.name, message=f"{part.name}: is not UTF-8.") from None
    return texts


def _twice(name: str) -> PublicError:
    return PublicError("body_unreadable", param=name, message=f"{name}: is there twice.")
