"""Both ways to ask for a picture from text alone: JSON in, each client's own JSON out.

OpenAI's fields and Friendli's tell the two apart. What has none of either is OpenAI's, and answered so that Friendli's
SDK finds its picture as well: it sends steps and guidance, unless its user says None.
"""

import hashlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import orjson

from gateway import json_call, openai_answer, unserved
from gateway.call import Call, edit_of
from gateway.errors import PublicError
from gateway.generation_schemas import ContainerImageGenerationBody, ImageGenerationBody
from gateway.schemas import ImageFormat, validated
from gateway.triton import Edit, Picture

OPENAIS: Final = ImageGenerationBody.model_fields.keys() - ContainerImageGenerationBody.model_fields.keys()
FRIENDLIS: Final = ("num_inference_steps", "guidance_scale", "response_format")
OPENAIS_FORMATS: Final = ("b64_json", "url")
PICTURES: Final = "send pictures as `image` to /v1/images/edits"
REFUSED: Final = {
    "control_images": ("parameter_invalid", f"is not served: {PICTURES}"),
    "controlnet_weights": ("parameter_invalid", "is not served"),
    "image": ("unsupported_parameter", f"is not served here: {PICTURES}"),
    "image_guidance_scale": ("unsupported_parameter", "is not served here: there is no picture to keep to"),
}
"""Fields that are not served here, though callers know them: each with its error's code and words."""


def parse(content: bytes, content_type: str) -> Call:  # noqa: ARG001 - the same signature as the other parsers'
    """The call in a JSON body; it has no images. Raises `PublicError`."""
    fields = json_call.fields_of(content)
    given = {name: value for name, value in fields.items() if value is not None} if isinstance(fields, dict) else {}
    for name, (code, words) in REFUSED.items():
        if given.get(name) not in (None, []):
            raise PublicError(code, param=name, message=f"{name}: {words}.")
    edit, answer = (_openais if _is_openais(given) else _friendlis)(fields)
    return Call(edit, [], answer, hashlib.sha256(content).digest())


def _is_openais(given: dict[str, Any]) -> bool:
    if OPENAIS & given.keys() or given.get("response_format") in OPENAIS_FORMATS:
        return True
    return not any(name in given for name in FRIENDLIS)


def _openais(fields: Any) -> tuple[Edit, Callable[[Picture], bytes]]:
    unserved.check(fields, known=ImageGenerationBody.model_fields)
    asked = validated(ImageGenerationBody, fields)
    edit = edit_of(asked, openai_answer.wanted(asked), asked.pixels)
    named = any(fields.get(name) is not None for name in (*OPENAIS, "response_format"))
    return edit, partial(openai_answer.answer if named else of_neither, asked, edit.seed)


def _friendlis(fields: Any) -> tuple[Edit, Callable[[Picture], bytes]]:
    unserved.check(fields)
    asked = validated(ContainerImageGenerationBody, fields)
    wanted: ImageFormat = asked.response_format or "jpeg"
    edit = edit_of(asked, wanted)
    named = fields.get("response_format") is not None
    return edit, partial(json_call.answer if named else for_both, edit.seed)


def of_neither(asked: ImageGenerationBody, seed: int, picture: Picture) -> bytes:
    """OpenAI's answer, with what Friendli's clients read."""
    answer = openai_answer.answered(asked, seed, picture)
    friendlis = {"image": answer["data"][0]["b64_json"], "width": picture.width, "height": picture.height}
    return orjson.dumps({**answer, **friendlis})


def for_both(seed: int, picture: Picture) -> bytes:
    """Friendli's answer to who names no format, with OpenAI's `data` in it: that SDK's user may have added steps."""
    answer = json_call.answered(seed, picture)
    return orjson.dumps(
        {
            **answer,
            "created": int(time.time()),
            "data": [{"b64_json": answer["image"]}],
            "output_format": "jpeg",
            "size": f"{picture.width}x{picture.height}",
        }
    )
