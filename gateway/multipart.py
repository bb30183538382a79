"""A `multipart/form-data` body as its parts, strictly. Knows nothing of what they mean."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.errors import PublicError

MAX_PARTS: Final = 64
MAX_NAME: Final = 64
MAX_PADDING: Final = 64
"""Blanks behind a boundary."""
BROKEN: Final = "The body is not a well-formed form."


@dataclass
class Part:
    """One part: the field's name, its content, and whether it is a file, with a name of its own."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    content: bytearray = field(default_factory=bytearray)
    is_file: bool = False

    @property
    def is_nothing(self) -> bool:
        """Whether it is as good as left out. A file is not, though it be empty: a browser sends one without a name."""
        return not (self.content or self.is_file)


class _Collector:
    """Gathers what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.complete = False
        self._field = b""
        self._value = b""

    def begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise _too_many()
        self.parts.append(Part())

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self.parts[-1].headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def headers_finished(self) -> None:
        headers = self.parts[-1].headers
        kind, options = parse_options_header(headers.get(b"content-disposition"))
        encoding = headers.get(b"content-transfer-encoding", b"binary").lower()
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if kind != b"form-data" or not 0 < len(name) <= MAX_NAME or encoding not in (b"binary", b"8bit", b"7bit"):
            raise PublicError("body_unreadable", message=BROKEN)
        self.parts[-1].name, self.parts[-1].is_file = name, bool(options.get(b"filename"))

    def data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].content += memoryview(data)[start:end]

    def end(self) -> None:
        self.complete = True


def parts_of(content: bytes, content_type: str) -> list[Part]:
    """The parts of a whole form, in their order. Raises `PublicError("body_unreadable")`."""
    found = _Collector()
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise PublicError("body_unreadable", message=BROKEN)
    _require_few(b"\r\n--" + boundary, content)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": found.begin,
                "on_part_data": found.data,
                "on_header_field": found.header_field,
                "on_header_value": found.header_value,
                "on_header_end": found.header_end,
                "on_headers_finished": found.headers_finished,
                "on_end": found.end,
            },
        )
        parser.write(content)
    except FormParserError:
        raise PublicError("body_unreadable", message=BROKEN) from None
    if not found.complete:
        raise PublicError("body_unreadable", message=BROKEN)
    return found.parts


def _require_few(delimiter: bytes, content: bytes) -> None:
    """Raises `PublicError` for more delimiters than forms here have, or for long ones.

    The parser goes byte by byte through what looks like one, and through blanks behind it: seconds for megabytes.
    """
    found, at = 0, content.find(delimiter)
    while at >= 0:
        found, end = found + 1, at + len(delimiter)
        if found > MAX_PARTS + 1:
            raise _too_many()
        if not content[end : end + MAX_PADDING].strip(b" \t"):
            raise PublicError("body_unreadable", message=BROKEN)
        at = content.find(delimiter, end)


def _too_many() -> PublicError:
    return PublicError("body_unreadable", message="The form has too many parts.")


def digest(parts: list[Part]) -> bytes:
    """Of all that the parts say; the boundary, which clients draw anew each time, is left out."""
    total = hashlib.sha256()
    for part in parts:
        total.update(f"{len(part.name)},{len(part.content)}:{part.name}".encode())
        total.update(part.content)
    return total.digest()
