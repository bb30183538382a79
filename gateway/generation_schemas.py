"""The words of `POST /v1/images/generations`, in the JSON of either kind of client. Knows nothing of HTTP or Triton."""

from pydantic import ConfigDict, Field

from gateway.openai_schemas import OpenAIOutput
from gateway.schemas import ImageFormat, PictureParameters
from gateway.sized_schemas import optional


class ContainerImageGenerationBody(PictureParameters):
    """A picture from text alone as Friendli's clients ask for it. Null and empty are as good as left out."""

    response_format: ImageFormat | None = Field(
        "jpeg",
        description="The format in which the generated image will be returned. One of `raw` and `jpeg`.",
        json_schema_extra=optional(),
    )


class ImageGenerationBody(OpenAIOutput, PictureParameters):
    """A picture from text alone as OpenAI's clients ask for it. Null and empty are as good as left out."""

    model_config = ConfigDict(strict=True)
