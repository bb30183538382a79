"""How many pictures of which size, and whether they are told of as they come: words of OpenAI's, in every dialect.

Knows nothing of HTTP or Triton.
"""

import re
from collections.abc import Callable
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.errors import PublicError

OWN: Final = 0
"""What stands for the model repository's own default."""
MOST_PICTURES: Final = 10
MOST_PREVIEWS: Final = 3
AUTO: Final = "auto"
SIZE: Final = r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"
NOTHING: Final = {"type": "string", "maxLength": 0, "x-extension": True}
"""An empty text, which is as good as null in JSON, as it is in a form."""
EXTENSION: Final[dict[str, Any]] = {"x-extension": True}


def optional(**more: Any) -> Callable[[dict[str, Any]], None]:
    """Let null, and an empty text, stand for a field that is left out, and add what else there is to say.

    `default: null` is left out, as in Friendli's schema.
    """

    def changed(schema: dict[str, Any]) -> None:
        if schema.get("default", 0) is None:
            del schema["default"]
        schema |= more
        if "anyOf" not in schema:
            names = ("type", "enum", "const", "pattern", "minimum", "maximum", "minLength", "maxLength")
            schema["anyOf"] = [{key: schema.pop(key) for key in names if key in schema}]
        null = {"type": "null"}
        schema["anyOf"] = [*(one for one in schema["anyOf"] if one != null), null, NOTHING]

    return changed


def whole(value: Any) -> Any:
    """A number without a fraction as an integer, which it is to JSON Schema, however it is written; others as they are.

    Beyond 2^53 it is not known any more whether a double had one.
    """
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53 else value


def size_of(text: str) -> tuple[int, int]:
    """Width and height of a size as in `1024x768`; zeros for `auto`."""
    if text == AUTO:
        return OWN, OWN
    width, height = map(int, text.split("x"))
    return width, height


class Sized(BaseModel):
    """How many pictures of which size, and whether they come as a stream of events: words of OpenAI's."""

    model_config = ConfigDict(strict=True)

    n: int = Field(
        1,
        ge=1,
        le=MOST_PICTURES,
        description="How many pictures, of this seed and those after it.",
        json_schema_extra=optional(**EXTENSION),
    )
    size: str = Field(
        AUTO,
        description="Width and height of the answer in pixels, as in `1024x768`. Of `auto` an edit has its first "
        "picture's, or of its aspect what the server makes at most; a picture from text what `GET /v1/models` tells.",
        json_schema_extra=optional(pattern=SIZE, **EXTENSION),
    )
    stream: bool = Field(
        False, description="Answer with server-sent events, as they happen.", json_schema_extra=optional(**EXTENSION)
    )
    partial_images: int = Field(
        0,
        ge=0,
        le=MOST_PREVIEWS,
        description="Previews of each picture, with `stream`; fewer may come.",
        json_schema_extra=optional(**EXTENSION),
    )
    progress: bool = Field(
        False, description="Tell every step, with `stream`.", json_schema_extra=optional(**EXTENSION)
    )

    _counts_are_whole = field_validator("n", "partial_images", mode="before")(whole)

    @field_validator("size")
    @classmethod
    def _size_is_one(cls, size: str) -> str:
        if not re.fullmatch(SIZE, size):
            message = "size: give auto, or width and height in pixels as in 1024x1024."
            raise PublicError("parameter_invalid", param="size", message=message)
        return size

    @model_validator(mode="after")
    def _streams_alone_tell(self) -> Self:
        for name in ("partial_images", "progress"):
            if getattr(self, name) and not self.stream:
                raise PublicError("parameter_invalid", param=name, message=f"{name}: goes with stream=true alone.")
        return self
