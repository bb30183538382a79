"""What comes back: pictures, and the events of a stream, read from OpenAI's JSON."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tritouch.errors import ADDRESS, RefusedError, problem_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from PIL import Image

SEEDS: Final = 2**64
"""Seeds are counted modulo this."""
_BROKEN: Final = (OSError, SyntaxError, ValueError)
"""What Pillow raises of a file that is none, or not whole."""
_UNREADABLE: Final = (KeyError, TypeError, AttributeError, ValueError, OverflowError)
"""What Python raises of JSON of another shape; the last of a number that is infinite."""
_SIZE: Final = re.compile(r"([0-9]{1,6})x([0-9]{1,6})", re.ASCII)


@dataclass(frozen=True)
class Picture:
    """An edited picture.

    content: the bytes of the file. format: png, jpeg or webp. width, height: pixels. seed: the same gives the same
    picture. index: which of several of one request, from 0. cache: how steps were cached, "" where the server does not
    tell. foretold_steps: of its steps those that were foretold, and not computed.
    """

    content: bytes = field(repr=False)
    format: str
    width: int
    height: int
    seed: int
    index: int = 0
    cache: str = ""
    foretold_steps: int = 0

    @cached_property
    def image(self) -> Image.Image:
        """As Pillow's, decoded when it is first asked for. Raises `AnswerError`: it is broken."""
        from PIL import Image  # noqa: PLC0415  # most callers save the file as it is

        try:
            image = Image.open(io.BytesIO(self.content))
            image.load()
        except _BROKEN:
            raise AnswerError("the server's picture cannot be decoded") from None
        return image

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file as it came, whatever the suffix says. Raises OSError."""
        Path(path).write_bytes(self.content)


@dataclass(frozen=True)
class Progress:
    """`step` of `steps` has been made of picture `index`."""

    step: int
    steps: int
    index: int = 0


@dataclass(frozen=True)
class Preview:
    """What picture `index` is going to look like; `number` counts a picture's previews from 0."""

    picture: Picture
    number: int
    index: int = 0


Event: TypeAlias = Progress | Preview | Picture
"""Of a stream; a `Picture` is a finished one, the last event of its index."""


class AnswerError(RefusedError):
    """What came is not an answer of this API."""


def pictures_of(answer: Any, seed: int, address: str = ADDRESS) -> list[Picture]:
    """The pictures of an answer, in the order of their seeds, of which the first is `seed`. Raises `AnswerError`.

    `address`: what the caller gave the server's address as.
    """
    try:
        entries = answer["data"]
        pictures = [
            _picture(answer | entry, _whole(entry.get("seed"), (seed + index) % SEEDS), index)
            for index, entry in enumerate(entries)
        ]
    except _UNREADABLE:
        raise AnswerError(f"the server's answer holds no picture: is {address} that of a Tritouch server?") from None
    if not pictures:
        raise AnswerError("the server's answer holds no picture")
    return pictures


def _picture(fields: dict[str, Any], seed: int, index: int) -> Picture:
    content = base64.b64decode(fields["b64_json"], validate=True)
    size = _SIZE.fullmatch(str(fields.get("size")))
    width, height = (int(size[1]), int(size[2])) if size else _size_of(content)
    made_as, cache = str(fields.get("output_format") or "png"), str(fields.get("cache") or "")
    return Picture(content, made_as, width, height, seed, index, cache, _whole(fields.get("foretold_steps"), 0))


def _size_of(content: bytes) -> tuple[int, int]:
    """Raises ValueError: this is no picture, or one so large that Pillow takes it for an attack."""
    from PIL import Image  # noqa: PLC0415  # our own server always tells the size

    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.size
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


class EventReader:
    """Server-sent events, line by line, into `Event`s.

    Pictures that were delivered are not delivered again, so that a stream that is sent again goes on where it broke.
    `complete`: whether all `n` pictures have come.
    """

    def __init__(self, n: int, seed: int) -> None:
        self._wanted, self._seed = set(range(n)), seed
        self._data: list[str] = []

    @property
    def complete(self) -> bool:
        return not self._wanted

    def begin(self) -> None:
        """A stream begins: what was left of a broken one is none of it."""
        self._data.clear()

    def feed(self, line: str) -> Iterator[Event]:
        """The event that this line ends, if any. Raises `AnswerError`, or what the server says by an `error` event."""
        if line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
        elif not line and self._data:
            text = "\n".join(self._data)
            self._data.clear()
            if text != "[DONE]":
                yield from self._event(text)

    def _event(self, text: str) -> Iterator[Event]:
        try:
            yield from self._read(json.loads(text))
        except _UNREADABLE:
            raise AnswerError("the server sent an event that cannot be read") from None

    def _read(self, event: dict[str, Any]) -> Iterator[Event]:
        if "error" in event:
            raise problem_of(0, event)
        kind = str(event["type"]).partition(".")[2]
        index = _whole(event.get("index"), 0)
        if index not in self._wanted:
            return
        if kind == "progress":
            yield Progress(int(event["step"]), int(event["steps"]), index)
        elif kind == "partial_image":
            yield Preview(
                _picture(event, (self._seed + index) % SEEDS, index), int(event["partial_image_index"]), index
            )
        elif kind == "completed":
            picture = _picture(event, _whole(event.get("seed"), (self._seed + index) % SEEDS), index)
            self._wanted.discard(index)
            yield picture
