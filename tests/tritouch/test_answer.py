"""Answers of servers that are not quite ours: pictures without a size, and broken ones."""

import base64
import json
import struct
from zlib import crc32

import pytest

import tritouch
from tests.tritouch.conftest import jpeg
from tests.tritouch.fake_server import plain

SNOW = "make it snow"


def answer(content: bytes, **more: str) -> bytes:
    """An edit's."""
    return json.dumps({"data": [{"b64_json": base64.b64encode(content).decode()}], **more}).encode()


def header_of_png(width: int, height: int) -> bytes:
    """As far as its pixels, of which there are none."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_the_size_is_that_of_the_file_where_the_server_does_not_tell(asks, server):
    server.script = [plain(200, answer(jpeg()))]
    picture = asks("edit", jpeg(), SNOW)
    assert (picture.width, picture.height) == (16, 8)


@pytest.mark.parametrize("content", [b"none", header_of_png(60000, 60000)], ids=["none", "too large for Pillow"])
def test_what_has_no_size_is_no_picture(asks, server, content):
    server.script = [plain(200, answer(content))]
    with pytest.raises(tritouch.RefusedError, match="holds no picture"):
        asks("edit", jpeg(), SNOW)


@pytest.mark.parametrize(
    "content", [b"none", jpeg()[:-20], header_of_png(16, 8)], ids=["none", "half", "without pixels"]
)
def test_a_picture_that_is_broken_is_told_when_it_is_decoded(asks, server, content):
    server.script = [plain(200, answer(content, size="16x8"))]
    picture = asks("edit", jpeg(), SNOW)
    assert picture.content == content
    with pytest.raises(tritouch.RefusedError, match="cannot be decoded"):
        _ = picture.image
