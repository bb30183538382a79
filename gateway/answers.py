"""What is answered, field by field. Knows nothing of HTTP or of how answers are made."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Used(BaseModel):
    """What an edit was done with, in every answer."""

    seed: int = Field(description="The seed that was used.", json_schema_extra={"x-extension": True})
    num_inference_steps: int = Field(
        description="The number of steps that were made.", json_schema_extra={"x-extension": True}
    )
    guidance_scale: float = Field(description="The scale that was used.", json_schema_extra={"x-extension": True})
    image_guidance_scale: float = Field(description="The scale that was used.", json_schema_extra={"x-extension": True})
    cache: Literal["off", "balanced"] | None = Field(
        None,
        description="How steps were cached. Absent where the repository does not tell.",
        json_schema_extra={"x-extension": True},
    )
    foretold_steps: int | None = Field(
        None,
        description="Steps of all pictures that were foretold, not computed. Absent where that is not told.",
        json_schema_extra={"x-extension": True},
    )


class SeveralOfContainer(BaseModel):
    """One of several pictures, as they are answered beside Friendli's `image`."""

    image: str = Field(description="The base64-encoded image.", json_schema_extra={"format": "binary"})
    seed: int = Field(description="Its seed.")
    foretold_steps: int | None = Field(None, description="Its steps that were foretold, where that is told.")


class ContainerImageEditSuccess(Used):
    """The answer to a JSON edit."""

    model_config = ConfigDict(json_schema_extra={"required": ["image"]})

    image: str = Field(
        description="The base64-encoded image; of several, the first.", json_schema_extra={"format": "binary"}
    )
    images: list[SeveralOfContainer] | None = Field(
        None, description="All pictures, where n is above 1.", json_schema_extra={"x-extension": True}
    )
    width: int = Field(description="Width of the picture in pixels.", json_schema_extra={"x-extension": True})
    height: int = Field(description="Height of the picture in pixels.", json_schema_extra={"x-extension": True})


class ContainerImageGenerateSuccess(ContainerImageEditSuccess):
    """The answer to Friendli's JSON: a picture from text alone. Without a `response_format` it has `data`, as well."""


class ImageFile(BaseModel):
    """One picture, as OpenAI's clients read it."""

    b64_json: str = Field(description="The base64-encoded image.")
    seed: int = Field(description="Its seed.", json_schema_extra={"x-extension": True})
    foretold_steps: int | None = Field(
        None,
        description="Its steps that were foretold, where that is told.",
        json_schema_extra={"x-extension": True},
    )


class InputTokensDetails(BaseModel):
    """Of which kinds the positions of the input are."""

    image_tokens: int
    text_tokens: int


class Usage(BaseModel):
    """Positions that the denoiser saw of one row, and made: of a UNet a latent is one."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int = Field(description="Those of all pictures together.")
    total_tokens: int


class ImagesSuccess(Used):
    """The answer to a form or to OpenAI's JSON, as its clients read it."""

    created: int = Field(description="When the picture was made, in seconds since 1970.")
    data: list[ImageFile] = Field(description="The pictures, in order of their seeds.")
    output_format: Literal["png", "jpeg", "webp"] = Field(description="The picture's file format.")
    size: str = Field(description="Width and height of the pictures in pixels, as in `512x384`.")
    usage: Usage | None = Field(None, description="Absent where the repository counts no tokens.")


class ErrorDetail(BaseModel):
    """What went wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The answer of every failure."""

    error: ErrorDetail
    detail: str
