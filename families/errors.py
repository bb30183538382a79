"""The errors of families: a bad checkpoint (export side) and an edit that cannot be done as asked (serving side)."""

import re


class BadCheckpointError(Exception):
    """The checkpoint is not what its pipeline class promises. The message is one line for the person who exports."""


class InvalidEditError(Exception):
    """The caller's input cannot be edited, or what became of it cannot be answered.

    `code` is a stable token that travels through Triton as `tritouch:CODE`, so that a gateway can choose its own words;
    the message is one line for services that call Triton directly.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


IMAGE_UNREADABLE = "image_unreadable"
IMAGE_TOO_LARGE = "image_too_large"
TOO_MANY_IMAGES = "too_many_images"
PROMPT_INVALID = "prompt_invalid"
PARAMETER_INVALID = "parameter_invalid"
UNKNOWN_MODEL = "unknown_model"
STEPS_UNAVAILABLE = "steps_unavailable"
EDIT_TOO_LARGE = "edit_too_large"
SIZE_UNAVAILABLE = "size_unavailable"
GENERATIONS_UNAVAILABLE = "generations_unavailable"
PICTURE_REFUSED = "picture_refused"
MASK_INVALID = "mask_invalid"
NEGATIVE_PROMPT_UNAVAILABLE = "negative_prompt_unavailable"

CODES = (
    IMAGE_UNREADABLE,
    IMAGE_TOO_LARGE,
    TOO_MANY_IMAGES,
    PROMPT_INVALID,
    PARAMETER_INVALID,
    UNKNOWN_MODEL,
    STEPS_UNAVAILABLE,
    EDIT_TOO_LARGE,
    SIZE_UNAVAILABLE,
    GENERATIONS_UNAVAILABLE,
    PICTURE_REFUSED,
    MASK_INVALID,
    NEGATIVE_PROMPT_UNAVAILABLE,
)
_INVALID_EDIT = re.compile(rf"tritouch:({'|'.join(CODES)}) (.*)", re.DOTALL)


def invalid_edit(said: str) -> InvalidEditError | None:
    """The InvalidEditError that travelled through Triton as text, before which Triton may have put words of its own."""
    found = _INVALID_EDIT.search(said)
    return InvalidEditError(found[1], found[2]) if found else None
