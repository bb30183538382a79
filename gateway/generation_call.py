"""Both ways to ask for a picture from text alone: JSON in, each client's own JSON out.

OpenAI's fields and Friendli's tell the two apart. What has none of either is OpenAI's, and answered so that Friendli's
SDK finds its picture as well: it sends steps and guidance, unless its user says None.
"""

import hashlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import orjson

from gateway import events, json_call, openai_answer, unserved
from gateway.call import Call, edit_of, stream_of
from gateway.errors import PublicError
from gateway.generation_schemas import ContainerImageGenerationBody, ImageGenerationBody
from gateway.pictures import Picture
from gateway.schemas import given, validated
from gateway.tensors import Edit

OPENAIS: Final = ImageGenerationBody.model_fields.keys() - ContainerImageGenerationBody.model_fields.keys()
FRIENDLIS: Final = ("num_inference_steps", "guidance_scale", "response_format")
OPENAIS_FORMATS: Final = ("b64_json", "url")
PICTURES: Final = "send pictures as `image` to /v1/images/edits"
REFUSED: Final = {
    "control_images": ("parameter_invalid", f"is not served: {PICTURES}"),
    "controlnet_weights": ("parameter_invalid", "is not served"),
    "image": ("unsupported_parameter", f"is not served here: {PICTURES}"),
    "images": ("unsupported_parameter", "is not served here: send them to /v1/images/edits"),
    "image_guidance_scale": ("unsupported_parameter", "is not served here: there is no picture to keep to"),
}
"""Fields that are not served here, though callers know them: each with its error's code and words."""


def parse(content: bytes, content_type: str) -> Call:  # noqa: ARG001 - the same signature as the other parsers'
    """The call in a JSON body; it has no images. Raises `PublicError`."""
    fields = json_call.fields_of(content)
    named = given(fields) if isinstance(fields, dict) else {}
    for name, (code, words) in REFUSED.items():
        if named.get(name) not in (None, []):
            raise PublicError(code, param=name, message=f"{name}: {words}.")
    return (_openais if _is_openais(named) else _friendlis)(fields, hashlib.sha256(content).digest())


def _is_openais(named: dict[str, Any]) -> bool:
    if OPENAIS & named.keys() or named.get("response_format") in OPENAIS_FORMATS:
        return True
    return not any(name in named for name in FRIENDLIS)


def _openais(fields: Any, digest: bytes) -> Call:
    unserved.check(fields, known=ImageGenerationBody.model_fields)
    asked = validated(ImageGenerationBody, fields)
    edit = edit_of(asked, openai_answer.wanted(asked))
    content = partial(openai_answer.content, asked)
    stream = stream_of(asked, partial(events.told, events.GENERATION, asked.output_format, content, edit))
    named = given(fields).keys() & {*OPENAIS, "response_format"}
    answer = partial(openai_answer.answer if named else of_neither, asked, edit)
    return Call(edit, [], answer, digest, [], stream)


def _friendlis(fields: Any, digest: bytes) -> Call:
    unserved.check(fields, known=ContainerImageGenerationBody.model_fields)
    asked = validated(ContainerImageGenerationBody, fields)
    edit = edit_of(asked, asked.response_format or "jpeg")
    named = "response_format" in given(fields)
    return Call(edit, [], partial(json_call.answer if named else for_both, edit), digest, [], None)


def of_neither(asked: ImageGenerationBody, edit: Edit, pictures: Sequence[Picture]) -> bytes:
    """OpenAI's answer, with what Friendli's clients read."""
    answer = openai_answer.answered(asked, edit, pictures)
    friendlis = {"image": answer["data"][0]["b64_json"], "width": pictures[0].width, "height": pictures[0].height}
    return orjson.dumps({**answer, **friendlis})


def for_both(edit: Edit, pictures: Sequence[Picture]) -> bytes:
    """Friendli's answer to who names no format, with OpenAI's `data` in it: that SDK's user may have added steps."""
    answer = json_call.answered(edit, pictures)
    return orjson.dumps(
        {
            **answer,
            "created": int(time.time()),
            "data": [{"b64_json": answer["image"], "seed": edit.seed}],
            "output_format": "jpeg",
            "size": f"{pictures[0].width}x{pictures[0].height}",
            **openai_answer.usage(pictures),
        }
    )
