"""Every setting of the gateway: its name, its default and its bounds, each written here and nowhere else.

Bounds that belong to the API itself (steps, guidance, seed, prompt) are in `gateway.schemas`, not here.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway import targets
from gateway.names import is_loopback

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", re.ASCII)
_OWN_PORT: Final = re.compile(r"^(http:.*):80$|^(https:.*):443$")
_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)


def _separated(value: Any) -> Any:
    """Text with commas as a list, as environment variables have it. Raises `ValueError` for text that lists nothing."""
    if not isinstance(value, str):
        return value
    listed = [one.strip() for one in value.split(",") if one.strip()]
    if value and not listed:
        raise ValueError("lists nothing; leave it empty for none")
    return listed


def _host(text: str) -> str:
    """A host as `gateway.urls` reads it: lower-case, an IPv6 address in its short form. Raises `ValueError`."""
    host = text.lower()
    try:
        return host if _NAME.fullmatch(host) else str(IPv6Address(host))
    except ValueError:
        raise ValueError("give hosts as names or addresses alone, without scheme, port, path or wildcard") from None


def _name(text: str) -> str:
    """A host, or `*`. Raises `ValueError`."""
    return text if text == "*" else _host(text)


def _origin(text: str) -> str:
    """An origin as browsers send it: in lower case, without its scheme's own port. Raises `ValueError`."""
    origin = text.lower()
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise ValueError("give origins as scheme://host or scheme://host:port, without a path, or * for any")
    own = _OWN_PORT.match(origin)
    return own[1] or own[2] if own else origin


def _key(key: SecretStr) -> SecretStr:
    """A key as a header can carry it. Raises `ValueError`, which does not tell it."""
    text = key.get_secret_value()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("give keys of printable ASCII characters alone: no client could send another")
    return key


def _tritons(text: str) -> str:
    targets.parse(text)
    return text


# A day at most: Triton and gRPC have no room for any number that Python has.
_DAY: Final = 86_400
Seconds = Annotated[float, Field(gt=0, le=_DAY, allow_inf_nan=False)]
WholeSeconds = Annotated[int, Field(gt=0, le=_DAY)]
Bytes = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], NoDecode, BeforeValidator(_separated)]
Names = Annotated[tuple[Annotated[str, AfterValidator(_name)], ...], NoDecode, BeforeValidator(_separated)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_separated)]
Ports = Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], NoDecode, BeforeValidator(_separated)]
Secrets = Annotated[tuple[Annotated[SecretStr, AfterValidator(_key)], ...], NoDecode, BeforeValidator(_separated)]


class Settings(BaseSettings):
    """Read from the environment, each name with `TRITOUCH_` before it. Raises `ValidationError` on a bad value."""

    model_config = SettingsConfigDict(env_prefix="TRITOUCH_", frozen=True, extra="ignore", hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", description="address the gateway listens on")
    port: int = Field(default=8000, ge=0, le=65535, description="port the gateway listens on; 0 takes a free one")
    triton_grpc: Annotated[str, AfterValidator(_tritons)] = Field(
        default="localhost:8001", description="gRPC address of Triton, or several: see below"
    )
    api_keys: Secrets = Field(default=(), description="bearer tokens, separated by commas; none: no authentication")
    server_names: Names = Field(
        default=(),
        description="names that requests may come to beside loopback's, separated by commas; `*` for any; none: any, "
        "but loopback's alone where only this machine is listened to and no keys are set",
    )
    cors_origins: Origins = Field(
        default=(), description="origins whose pages may use the API, separated by commas; `*` for any, none: no other"
    )
    playground: Literal["auto", "true", "false"] = Field(
        default="auto",
        description="whether `/` is the playground; `auto`: where only this machine is listened to and no keys are set",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe log lines that are written"
    )

    edit_timeout_seconds: Seconds = Field(default=300.0, description="deadline of one edit, once its body is read")
    head_timeout_seconds: Seconds = Field(
        default=10.0, description="longest time that a connection may be without a request, or take to send its headers"
    )
    body_timeout_seconds: Seconds = Field(default=60.0, description="longest time that a body may take to arrive")
    body_pause_seconds: Seconds = Field(
        default=5.0, description="longest pause while a body arrives or an answer is read"
    )
    body_bytes_per_second: Bytes = Field(
        default=8192, description="least rate of a body, and of the reading of an answer, such pauses aside"
    )
    orphan_grace_seconds: Seconds = Field(
        default=5.0, description="how long an edit whose caller left is kept for the same request to come again"
    )
    ping_seconds: Seconds = Field(default=10.0, description="longest silence of a stream, before a comment is sent")
    drain_seconds: WholeSeconds = Field(default=300, description="longest wait for edits in flight after SIGTERM")

    max_connections: Count = Field(
        default=1024, description="most connections, up to half of the files that may be open; over it the idlest go"
    )
    max_edits: Count = Field(default=64, description="most edits in flight, each of `n` one; over it 429")
    max_edits_per_key: Count | None = Field(
        default=None,
        description="most of these that one caller's may be: those of a token, or of an address; unset: all of them",
    )
    max_held_bytes: Bytes = Field(
        default=402_653_184, description="most bytes of bodies, images and unread answers in memory; over it 429"
    )
    max_caller_bytes: Bytes = Field(
        default=201_326_592, description="most of these that one caller's may be: those of a token, or of an address"
    )
    max_body_bytes: Bytes = Field(default=100_663_296, description="largest request body")
    max_image_bytes: Bytes = Field(default=52_428_800, description="largest encoded image, after base64 is undone")
    max_images: Count = Field(default=8, description="most images in one request")
    max_request_image_bytes: Bytes = Field(default=67_108_864, description="most bytes of all images of one request")
    decode_threads: Count = Field(default=1, description="threads that parse bodies, decode base64 and encode answers")

    url_images: bool = Field(default=True, description="whether images may be given by URL")
    url_hosts: Hosts = Field(
        default=(), description="the only hosts to fetch from, separated by commas; none: any public"
    )
    url_private_hosts: Hosts = Field(
        default=(), description="hosts that may be fetched from though their address is not public, separated by commas"
    )
    url_ports: Ports = Field(default=(80, 443), description="ports to fetch from, separated by commas")
    url_connect_seconds: Seconds = Field(default=3.0, description="longest time to connect to an image's host")
    url_total_seconds: Seconds = Field(default=10.0, description="longest time to fetch one image, redirects included")
    url_fetches: Count = Field(default=16, description="most images fetched at once")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Lists keep theirs: an empty one is none, which for `url_ports` is not the default."""
        lists = {name for name, field in cls.model_fields.items() if isinstance(field.default, tuple)}
        return {name: value for name, value in given.items() if value != "" or name in lists}

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        if min(self.max_held_bytes, self.max_caller_bytes) < self.max_body_bytes:
            raise ValueError(
                "TRITOUCH_MAX_HELD_BYTES and TRITOUCH_MAX_CALLER_BYTES must not be below TRITOUCH_MAX_BODY_BYTES"
            )
        return self

    @property
    def models(self) -> Mapping[str, tuple[str, ...]]:
        """The gRPC addresses of each model's Tritons by its name, the default model first."""
        return targets.parse(self.triton_grpc)

    @property
    def names_checked(self) -> bool:
        """Whether requests may come to `server_names` and loopback's alone."""
        return bool(self.server_names or self._is_own_machines) and "*" not in self.server_names

    @property
    def _is_own_machines(self) -> bool:
        """Whether this machine alone is listened to, and lets everyone in."""
        return is_loopback(self.host) and not self.api_keys

    @property
    def playground_served(self) -> bool:
        """Whether `/` is the playground: as `playground` says or, if `auto`, to this machine alone and without keys."""
        if self.playground == "auto":
            return self._is_own_machines
        return self.playground == "true"
