"""The API's words: fields, types, defaults and bounds, each written once.

Knows nothing of HTTP or Triton. Names follow Friendli Container's schema; what it has not is marked `x-extension`.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticKnownError

from gateway import adapters
from gateway.errors import PublicError

MAX_SEED: Final = 2**64 - 1
MAX_GUIDANCE: Final = 100.0
MAX_PROMPT_CHARS: Final = 10_000
OWN: Final = 0
"""What stands for the model repository's own default."""
INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,99})", re.ASCII)
NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)

ImageFormat = Literal["raw", "jpeg"]
P = TypeVar("P", bound="PictureParameters")


def _no_default(schema: dict[str, Any]) -> None:
    """Leave `default: null` out, as Friendli's schema does."""
    schema.pop("default", None)


def _or_null(**more: Any) -> Callable[[dict[str, Any]], None]:
    """Let null stand for a field that is left out, and add what else there is to say."""

    def changed(schema: dict[str, Any]) -> None:
        alone = {key: schema.pop(key) for key in ("type", "minimum", "maximum")}
        schema |= {"anyOf": [alone, {"type": "null"}]} | more

    return changed


def _with_files(schema: dict[str, Any]) -> None:
    """Name the form's files, which are not among its texts."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    schema["properties"]["image"] = files | {"description": "The image(s) to edit, as `image` or `image[]`."}
    schema["required"].append("image")


class ImageInput(BaseModel):
    """One picture to edit."""

    model_config = ConfigDict(strict=True)

    image: str = Field(
        description="An input image, provided either as a URL or a base64-encoded string. "
        "Maximum supported image size is 50 MiB.",
        examples=["data:image/png;base64,..."],
    )


class PictureParameters(BaseModel):
    """What every picture is made with, an edited one or one from text alone, in either form of the API."""

    model_config = ConfigDict(strict=True)

    prompt: str = Field(
        description="A text description of the desired image.",
        min_length=1,
        max_length=MAX_PROMPT_CHARS,
        json_schema_extra={"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"},
    )
    model: str | None = Field(
        None,
        description="Routes the request to a specific adapter. As an extension up to 4 of them are joined by `+`, each "
        "with a scale of -10 to 10 behind a colon, 1 when absent: `oil:0.7+ink`.",
        examples=["(adapter-route)"],
        json_schema_extra=_no_default,
    )
    num_inference_steps: int = Field(
        OWN,
        ge=1,
        le=50,
        description="The number of inference steps to use during image generation. Supported range: [1, 50]. "
        "When absent, the model repository's own default, which `GET /v1/models` and the answer tell.",
        json_schema_extra=_or_null(default=20),  # Friendli's schema has it
    )
    guidance_scale: float = Field(
        OWN,
        ge=0,
        le=MAX_GUIDANCE,
        allow_inf_nan=False,
        description="How closely the picture follows the prompt. 0 takes the model repository's own default; "
        "above 0 and up to 1, guidance is off. Defaults to 0.",
        json_schema_extra=_or_null(),
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED,
        description="The seed to use for image generation. Drawn at random when absent.",
        json_schema_extra=_no_default,
    )

    @field_validator("prompt")
    @classmethod
    def _prompt_says_something(cls, prompt: str) -> str:
        if "\x00" in prompt or not prompt.strip():
            raise PublicError("prompt_invalid", param="prompt", message="prompt: must hold text, and no NUL character.")
        return prompt

    @field_validator("model")
    @classmethod
    def _model_names_adapters(cls, model: str | None) -> str | None:
        adapters.check(model or "")
        return model


class EditParameters(PictureParameters):
    """What every edit has beside its images."""

    image_guidance_scale: float = Field(
        OWN,
        ge=0,
        le=MAX_GUIDANCE,
        allow_inf_nan=False,
        description="How closely the picture follows the input picture, in families that have it. 0 takes the model "
        "repository's own default; above 0 and below 1, all guidance is off, that of the prompt too. Defaults to 0.",
        json_schema_extra=_or_null(**{"x-extension": True}),
    )


class ContainerImageEditBody(EditParameters):
    """The JSON body of one edit. Null is as good as left out, and unknown fields are ignored."""

    image: ImageInput | Annotated[list[ImageInput], Field(min_length=1)] = Field(
        description="The image(s) to edit. Must be in a supported image format."
    )
    response_format: ImageFormat | None = Field(
        "jpeg",
        description="The format in which the generated image will be returned. One of `raw` and `jpeg`.",
    )

    def images(self) -> list[str]:
        """The images as given: URL, data URL or base64. At least one."""
        given = self.image if isinstance(self.image, list) else [self.image]
        return [one.image for one in given]


class OpenAIOutput(BaseModel):
    """How a picture is answered, as OpenAI's clients ask for it in forms and in JSON."""

    model_config = ConfigDict(strict=True)

    output_format: Literal["png", "jpeg", "webp"] = Field("png", description="The answer's file format.")
    output_compression: int | None = Field(
        None,
        ge=0,
        le=100,
        description="The quality of JPEG and WebP, in percent. When absent, 95 for JPEG and 100 for WebP. "
        "PNG takes 100 alone.",
        json_schema_extra=_no_default,
    )
    response_format: Literal["b64_json"] = Field("b64_json", description="Pictures are always base64 in the JSON.")
    quality: Literal["auto"] = Field("auto", description="Not served: use num_inference_steps.")
    background: Literal["auto", "opaque"] = Field("auto", description="Pictures are always opaque.")
    user: str | None = Field(None, description="Ignored.", json_schema_extra=_no_default)


class ImageEditForm(OpenAIOutput, EditParameters):
    """The text fields of one edit as OpenAI's clients send it. What is not served is not listed, and so refused."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra=_with_files)

    n: Literal["1"] = Field("1", description="How many pictures: one.")
    size: Literal["auto"] = Field("auto", description="The size follows from the input picture.")
    stream: Literal["false"] = Field("false", description="Streaming is not served.")
    partial_images: Literal["0"] = Field("0", description="Streaming is not served.")

    @field_validator("num_inference_steps", "seed", "output_compression", mode="before")
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


def validated(model: type[P], fields: Any, *, strings: bool = False) -> P:
    """`fields` (parsed JSON; or, with `strings`, texts of a form) as a checked `model`. Null is none.

    Raises `PublicError` without repeating any input.
    """
    given = {name: value for name, value in fields.items() if value is not None} if isinstance(fields, dict) else fields
    try:
        return model.model_validate_strings(given) if strings else model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    if not first["loc"]:
        raise PublicError("parameter_invalid", message="The body must be a JSON object.")
    name, reason = str(first["loc"][0]), first["msg"]
    if first["type"] == "literal_error":
        reason = f"only {first['ctx']['expected'].replace(chr(39), '').lower()} is served"
    if name == "image":
        reason = 'give {"image": "..."} or a list of at least one of these'
    code = "prompt_invalid" if name == "prompt" else "parameter_invalid"
    if issubclass(model, OpenAIOutput) and first["type"] == "literal_error":
        code = "unsupported_parameter"
    raise PublicError(code, param=name, message=f"{name}: {reason}.")
