"""The API's words: fields, types, defaults and bounds, each written once.

Knows nothing of HTTP or Triton. Names follow Friendli Container's schema; what it has not is marked `x-extension`.
"""

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gateway import adapters
from gateway.errors import PublicError
from gateway.sized_schemas import EXTENSION, OWN, Sized, optional, whole

MAX_SEED: Final = 2**64 - 1
MAX_GUIDANCE: Final = 100.0
MAX_PROMPT_CHARS: Final = 10_000

SHAPES: Final = {
    "image": 'give {"image": "..."} or a list of at least one of these',
    "images": 'give a list of 1 to 16 of {"image_url": "..."}',
    "mask": 'give {"image": "..."} or, beside images, {"image_url": "..."}',
}
"""How a field is written whose parts are not told one by one."""

REASONS: Final = {
    "missing": "is missing",
    "string_type": "must be text",
    "string_too_long": "must have at most {max_length} characters",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "only {expected} is served",
}
"""What is wrong with a field, by pydantic's name of it."""

ImageFormat = Literal["raw", "jpeg"]
P = TypeVar("P", bound="PictureParameters")


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
        "with a scale of -10 to 10 behind a colon, 1 when absent: `oil:0.7+ink`; and where there are several models, "
        "one is chosen by its name, which stands before a slash and its adapters: `sdxl`, `sdxl/oil`.",
        examples=["(adapter-route)"],
        json_schema_extra=optional(),
    )
    num_inference_steps: int = Field(
        OWN,
        ge=1,
        le=50,
        description="The number of inference steps to use during image generation. Supported range: [1, 50]. "
        "When absent, the model repository's own default, which `GET /v1/models` and the answer tell.",
        json_schema_extra=optional(default=20),  # Friendli's schema has it
    )
    guidance_scale: float = Field(
        OWN,
        ge=0,
        le=MAX_GUIDANCE,
        allow_inf_nan=False,
        description="How closely the picture follows the prompt. 0 takes the model repository's own default; "
        "above 0 and up to 1, guidance is off. Defaults to 0.",
        json_schema_extra=optional(),
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED,
        description="The seed to use for image generation. Drawn at random when absent.",
        json_schema_extra=optional(),
    )
    negative_prompt: str | None = Field(
        None,
        max_length=MAX_PROMPT_CHARS,
        description="What the picture should not be, for models that take it: `GET /v1/models` tells.",
        json_schema_extra=optional(**EXTENSION),
    )
    cache: Literal["off", "balanced"] | None = Field(
        None,
        description="Whether steps that can be foretold from those before are computed (`off`) or not (`balanced`: "
        "sooner done, nearly the same picture). When absent, the model repository's own, told by `GET /v1/models`.",
        json_schema_extra=optional(**EXTENSION),
    )

    _steps_and_seed_are_whole = field_validator("num_inference_steps", "seed", mode="before")(whole)

    @field_validator("prompt")
    @classmethod
    def _prompt_says_something(cls, prompt: str) -> str:
        if "\x00" in prompt or not prompt.strip():
            raise PublicError("prompt_invalid", param="prompt", message="prompt: must hold text, and no NUL character.")
        return prompt

    @field_validator("negative_prompt")
    @classmethod
    def _negative_prompt_is_text(cls, prompt: str | None) -> str | None:
        if "\x00" in (prompt or ""):
            message = "negative_prompt: must hold no NUL character."
            raise PublicError("prompt_invalid", param="negative_prompt", message=message)
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
        json_schema_extra=optional(**EXTENSION),
    )


class ContainerImageEditBody(Sized, EditParameters):
    """The JSON body of one edit. Null and empty are as good as left out, and unknown fields are ignored."""

    image: ImageInput | Annotated[list[ImageInput], Field(min_length=1)] = Field(
        description="The image(s) to edit. Must be in a supported image format."
    )
    response_format: ImageFormat | None = Field(
        "jpeg",
        description="The format in which the generated image will be returned. One of `raw` and `jpeg`.",
        json_schema_extra=optional(),
    )
    mask: ImageInput | str | None = Field(
        None,
        description="A PNG as large as the first image, whose transparent pixels are edited, and no others.",
        json_schema_extra=optional(**EXTENSION),
    )

    def images(self) -> list[str]:
        """The images as given: URL, data URL or base64. At least one."""
        given = self.image if isinstance(self.image, list) else [self.image]
        return [one.image for one in given]

    def masks(self) -> list[str]:
        """The mask as given, or none."""
        given = self.mask.image if isinstance(self.mask, ImageInput) else self.mask
        return [given] if given else []


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that say something: null and an empty text are as good as left out."""
    return {name: value for name, value in fields.items() if value is not None and value != ""}


def validated(model: type[P], fields: Any) -> P:
    """`fields` (parsed JSON, or the texts of a form) as a checked `model`.

    Raises `PublicError` without repeating any input.
    """
    try:
        return model.model_validate(given(fields) if isinstance(fields, dict) else fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    if not first["loc"]:
        raise PublicError("parameter_invalid", message="The body must be a JSON object.")
    name, about = str(first["loc"][0]), first.get("ctx", {})
    if "expected" in about:
        about["expected"] = about["expected"].replace("'", "").lower()
    reason = SHAPES.get(name) or REASONS.get(first["type"], first["msg"]).format(**about)
    code = "prompt_invalid" if name in ("prompt", "negative_prompt") else "parameter_invalid"
    if "output_format" in model.model_fields and first["type"] == "literal_error" and name != "cache":
        code = "unsupported_parameter"
    raise PublicError(code, param=name, message=f"{name}: {reason}.")
