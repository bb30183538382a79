"""Every setting of the gateway: its name, its default and its bounds, each written here and nowhere else.

Bounds that belong to the API itself (steps, guidance, seed) are in `gateway.schemas`, not here.
"""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class Settings(BaseSettings):
    """Read from the environment, each name with `TRITOUCH_` before it. Raises `ValidationError` on a bad value."""

    model_config = SettingsConfigDict(env_prefix="TRITOUCH_", frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", description="address the gateway listens on")
    port: int = Field(default=8000, ge=0, le=65535, description="port the gateway listens on; 0 takes a free one")
    triton_grpc: str = Field(default="localhost:8001", description="gRPC target of Triton")

    edit_timeout_seconds: Seconds = Field(default=300.0, description="deadline of one edit, from its body's last byte")

    drain_seconds: Count = Field(default=60, description="longest wait for edits in flight after SIGTERM")

    max_body_bytes: Bytes = Field(default=100_663_296, description="largest request body")
    max_image_bytes: Bytes = Field(default=52_428_800, description="largest encoded image, after base64 is undone")
    max_images: Count = Field(default=8, description="most images in one request")
    max_request_image_bytes: Bytes = Field(default=67_108_864, description="most bytes of all images of one request")
