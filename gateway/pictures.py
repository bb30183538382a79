"""What comes back from Triton: pictures of `edit`, and the events of `edit_stream`. Knows nothing of calls or HTTP."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from tritonclient.grpc import service_pb2

from gateway.errors import PublicError

SCALES: Final = ("guidance_scale", "image_guidance_scale")
FORETOLD: Final = "foretold_steps"
"""Of what was used, the one number that each picture has its own of."""
_LACKS: Final = "Triton's answer lacks a tensor of the contract"
_NO_PICTURE: Final = "Triton's answer holds no picture of the size it says"
_NOT_ITS: Final = "Triton's answer is about a picture that was not asked for"


Used: TypeAlias = Mapping[str, int | float | str]


@dataclass(frozen=True)
class Tokens:
    """Positions that the denoiser sees of one row, and those of the picture that it makes."""

    text: int
    image: int
    output: int


@dataclass(frozen=True)
class Picture:
    """The edited picture: a JPEG file, or raw 8-bit RGB rows of `height` x `width` x 3 bytes.

    `used`: what the edit was done with, defaults filled in; of a preview nothing. `tokens`: none where the repository
    counts none.
    """

    content: bytes
    width: int
    height: int
    used: Used
    tokens: Tokens | None = None


@dataclass(frozen=True)
class Begun:
    """The edit is validated, admitted and conditioned: what fails from now on is no fault of its caller's."""


@dataclass(frozen=True)
class Progress:
    """So many `step`s of `steps` are made of the picture of this `index`, from 0."""

    index: int
    step: int
    steps: int


@dataclass(frozen=True)
class Preview:
    """What the picture of this `index` looks like so far; `number`: which of its previews, from 0."""

    index: int
    number: int
    picture: Picture


@dataclass(frozen=True)
class Finished:
    """The picture of this `index`, done."""

    index: int
    picture: Picture


Event: TypeAlias = Begun | Progress | Preview | Finished
Raw: TypeAlias = Mapping[str, bytes]


def pictures_of(response: service_pb2.ModelInferResponse, response_format: str, n: int = 1) -> list[Picture]:
    """The `n` pictures in an answer of `edit`. Raises `PublicError("edit_failed")` when it breaks the contract."""
    raw = _raw(response)
    used, tokens, size = _used(raw), _tokens(raw), _numbers(raw, "size", 2)
    if "image" not in raw:
        raise _broken(_LACKS)
    contents = _elements(raw["image"])
    if len(contents) != n:
        raise _broken(_NO_PICTURE)
    foretold = _foretold(raw, n)
    return [
        _picture(content, size, response_format, {**used, **own}, tokens)
        for content, own in zip(contents, foretold, strict=True)
    ]


def used_of(pictures: Sequence[Picture]) -> Used:
    """What all pictures of an edit were made with; steps that were foretold are counted together."""
    used = dict(pictures[0].used)
    if FORETOLD in used:
        used[FORETOLD] = sum(int(picture.used[FORETOLD]) for picture in pictures)
    return used


def own_of(picture: Picture) -> Used:
    """Of what a picture was made with, that which may be another of the next."""
    return {name: value for name, value in picture.used.items() if name == FORETOLD}


def picture_of(response: service_pb2.ModelInferResponse, response_format: str) -> Picture:
    """The one picture in an answer. Raises as `pictures_of` does."""
    return pictures_of(response, response_format)[0]


def event_of(response: service_pb2.ModelInferResponse, response_format: str, n: int) -> Event | None:
    """What one response of `edit_stream`, asked for `n` pictures, tells. Raises as `pictures_of` does."""
    raw = _raw(response)
    if not raw:
        return None
    if "index" not in raw:
        _numbers(raw, "step", 2)
        return Begun()
    (index,) = _numbers(raw, "index", 1)
    if not 0 <= index < n:
        raise _broken(_NOT_ITS)
    if "image" not in raw:
        step, steps = _numbers(raw, "step", 2)
        return Progress(index, step, steps)
    if "partial_index" not in raw:
        return Finished(index, picture_of(response, response_format))
    (number,) = _numbers(raw, "partial_index", 1)
    contents = _elements(raw["image"])
    if len(contents) != 1:
        raise _broken(_NO_PICTURE)
    return Preview(index, number, _picture(contents[0], _numbers(raw, "size", 2), response_format, {}, None))


def _broken(cause: str) -> PublicError:
    return PublicError("edit_failed", cause=cause)


def _raw(response: service_pb2.ModelInferResponse) -> Raw:
    """Each output's content by its name."""
    try:
        return dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=True))
    except ValueError:
        raise _broken(_LACKS) from None


def _numbers(raw: Raw, name: str, count: int) -> tuple[int, ...]:
    """An INT32 tensor of so many elements."""
    try:
        return struct.unpack(f"<{count}i", raw[name])
    except (KeyError, struct.error):
        raise _broken(_LACKS) from None


def _elements(content: bytes) -> list[bytes]:
    """The elements of a BYTES tensor."""
    found, at = [], 0
    while at < len(content):
        try:
            (length,) = struct.unpack_from("<I", content, at)
        except struct.error:
            raise _broken(_NO_PICTURE) from None
        found.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    if at != len(content):
        raise _broken(_NO_PICTURE)
    return found


def _picture(content: bytes, size: tuple[int, ...], response_format: str, used: Used, tokens: Tokens | None) -> Picture:
    width, height = size
    right = len(content) == width * height * 3 if response_format == "raw" else content.startswith(b"\xff\xd8\xff")
    if min(width, height) <= 0 or not right:
        raise _broken(_NO_PICTURE)
    return Picture(content, width, height, used, tokens)


def _used(raw: Raw) -> dict[str, int | float | str]:
    """What the edit was done with; a repository that was exported before tells nothing of step caching."""
    try:
        scales = {name: struct.unpack("<f", raw[name])[0] for name in SCALES}
    except (KeyError, struct.error):
        raise _broken("Triton's answer does not say what the edit was done with") from None
    (steps,) = _numbers(raw, "num_inference_steps", 1)
    # A float32 as people write it: 7.5, and 0.1 instead of 0.10000000149.
    cache = {"cache": _elements(raw["cache"])[0].decode(errors="replace")} if raw.get("cache") else {}
    return {"num_inference_steps": steps, **{name: float(f"{scale:.6g}") for name, scale in scales.items()}, **cache}


def _foretold(raw: Raw, n: int) -> list[dict[str, int]]:
    """Of each of n pictures how many steps were foretold, where that is told."""
    if "foretold" not in raw:
        return [{}] * n
    return [{FORETOLD: steps} for steps in _numbers(raw, "foretold", n)]


def _tokens(raw: Raw) -> Tokens | None:
    """What the picture took of the denoiser; a repository that was exported before these were counted tells none."""
    return Tokens(*_numbers(raw, "tokens", 3)) if "tokens" in raw else None
