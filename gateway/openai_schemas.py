"""The words of `POST /v1/images/edits` as OpenAI's clients say them, in a form and in JSON.

Knows nothing of HTTP or Triton.
"""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticKnownError

from gateway.errors import PublicError
from gateway.schemas import EditParameters
from gateway.sized_schemas import Sized, optional, whole

MOST_IMAGES: Final = 16
# Bounded: a body's worth of digits takes seconds, in which nothing else runs.
INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,99})", re.ASCII)
NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,9})?", re.ASCII)
BOOLEANS: Final = {"true": True, "false": False}
NO_FILES: Final = "file_id is not served, for no files are kept here: give image_url"


class OpenAIOutput(Sized):
    """How a picture is answered, as OpenAI's clients ask for it in forms and in JSON."""

    model_config = ConfigDict(strict=True)

    output_format: Literal["png", "jpeg", "webp"] = Field(
        "png", description="The answer's file format.", json_schema_extra=optional()
    )
    output_compression: int | None = Field(
        None,
        ge=0,
        le=100,
        description="The quality of JPEG and WebP, in percent. When absent, 95 for JPEG and 100 for WebP. "
        "PNG takes 100 alone.",
        json_schema_extra=optional(),
    )
    response_format: Literal["b64_json"] = Field(
        "b64_json", description="Pictures are always base64 in the JSON.", json_schema_extra=optional()
    )
    quality: Literal["auto", "low", "medium", "high", "standard", "hd"] = Field(
        "auto", description="Changes nothing: use num_inference_steps.", json_schema_extra=optional()
    )
    background: Literal["auto", "opaque"] = Field(
        "auto", description="Pictures are always opaque.", json_schema_extra=optional()
    )
    moderation: Literal["auto", "low"] = Field("auto", description="Changes nothing.", json_schema_extra=optional())
    user: str | None = Field(None, description="Ignored.", json_schema_extra=optional())
    safety_identifier: str | None = Field(None, description="Ignored.", json_schema_extra=optional())

    _compression_is_whole = field_validator("output_compression", mode="before")(whole)


class OpenAIEdit(OpenAIOutput, EditParameters):
    """What an edit has besides, in both."""

    input_fidelity: Literal["high", "low"] | None = Field(
        None,
        description="Changes nothing: use image_guidance_scale, where the model has it.",
        json_schema_extra=optional(),
    )


def _with_files(schema: dict[str, Any]) -> None:
    """Name the form's files, which are not among its texts."""
    file = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": file, "minItems": 1}
    schema["properties"]["image"] = files | {"description": "The image(s) to edit, as `image` or `image[]`."}
    schema["properties"]["mask"] = file | {
        "description": "A PNG as large as the first image, whose transparent pixels are edited, and no others."
    }
    schema["required"].append("image")


class ImageEditForm(OpenAIEdit):
    """The text fields of one edit as OpenAI's clients send it. What is not served is not listed, and so refused."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra=_with_files)

    @field_validator("n", "partial_images", "num_inference_steps", "seed", "output_compression", mode="before")
    @classmethod
    def _integer_as_in_json(cls, text: str) -> int:
        if not INTEGER.fullmatch(text):
            raise PydanticKnownError("int_parsing")
        return int(text)

    @field_validator("guidance_scale", "image_guidance_scale", mode="before")
    @classmethod
    def _number_as_in_json(cls, text: str) -> float:
        if not NUMBER.fullmatch(text):
            raise PydanticKnownError("float_parsing")
        return float(text)

    @field_validator("stream", "progress", mode="before")
    @classmethod
    def _boolean_as_in_json(cls, text: str) -> bool:
        if text.lower() not in BOOLEANS:
            raise PydanticKnownError("bool_parsing")
        return BOOLEANS[text.lower()]


class ImageReference(BaseModel):
    """One picture, as OpenAI's JSON names it."""

    model_config = ConfigDict(strict=True)

    image_url: str = Field(
        min_length=1,
        description="A picture, as a URL, a base64 data URL, or base64.",
        examples=["data:image/png;base64,..."],
    )


class ImageEditBody(OpenAIEdit):
    """The JSON body of one edit as OpenAI has it. Null and empty are as good as left out."""

    model_config = ConfigDict(strict=True, json_schema_extra={"x-extension": True})

    images: Annotated[list[ImageReference], Field(min_length=1, max_length=MOST_IMAGES)] = Field(
        description="The images to edit."
    )
    mask: ImageReference | None = Field(
        None,
        description="A PNG as large as the first image, whose transparent pixels are edited, and no others.",
        json_schema_extra=optional(),
    )

    @field_validator("images", "mask", mode="before")
    @classmethod
    def _no_files(cls, value: object, info: Any) -> object:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and one.get("file_id") not in (None, ""):
                message = f"{info.field_name}: {NO_FILES}."
                raise PublicError("unsupported_parameter", param=info.field_name, message=message)
        return value
