"""The words of `POST /v1/images/generations`, in the JSON of either kind of client. Knows nothing of HTTP or Triton."""

import re
from typing import Final, Literal

from pydantic import ConfigDict, Field, field_validator
from pydantic_core import PydanticKnownError

from gateway.errors import PublicError
from gateway.schemas import ImageFormat, OpenAIOutput, PictureParameters

AUTO: Final = "auto"
SIZE: Final = r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"


class ContainerImageGenerationBody(PictureParameters):
    """A picture from text alone as Friendli's clients ask for it. Null is as good as left out."""

    response_format: ImageFormat | None = Field(
        "jpeg",
        description="The format in which the generated image will be returned. One of `raw` and `jpeg`.",
    )


class ImageGenerationBody(OpenAIOutput, PictureParameters):
    """A picture from text alone as OpenAI's clients ask for it. Null is as good as left out."""

    model_config = ConfigDict(strict=True)

    n: Literal[1] = Field(1, description="How many pictures: one.")
    size: str = Field(
        AUTO,
        description="Width and height in pixels, as in `1024x1024`; `auto`: as `GET /v1/models` tells.",
        json_schema_extra={"pattern": SIZE},
    )
    stream: Literal[False] = Field(False, description="Streaming is not served.")
    partial_images: Literal[0] = Field(0, description="Streaming is not served.")
    moderation: Literal["auto", "low"] = Field(AUTO, description="Changes nothing.")
    safety_identifier: str | None = Field(None, description="Ignored.")

    @field_validator("n", "partial_images", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: object) -> object:
        if type(value) is not int:  # a literal of pydantic's takes true for 1, too
            raise PydanticKnownError("int_type")
        return value

    @field_validator("size")
    @classmethod
    def _size_is_one(cls, size: str) -> str:
        if not re.fullmatch(SIZE, size):
            message = "size: give auto, or width and height in pixels as in 1024x1024."
            raise PublicError("parameter_invalid", param="size", message=message)
        return size

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height; zeros for the model's own."""
        if self.size == AUTO:
            return 0, 0
        width, height = map(int, self.size.split("x"))
        return width, height
