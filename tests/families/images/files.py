"""PNG files and ICC profiles, byte by byte, so that nothing which writes them has a say in what they mean."""

import io
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
D50 = (0.9642, 1.0, 0.8249)
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""Primaries: XYZ adapted to D50."""


def chunk(name: bytes, content: bytes, checksum: int | None = None) -> bytes:
    right = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", right if checksum is None else checksum)


def header(width: int, height: int, depth: int, kind: int, interlaced: bool = False) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))


def blank(width: int, height: int, depth: int, kind: int) -> bytes:
    """A PNG of zeros alone, made row by row."""
    compressor = zlib.compressobj(1)
    row = bytes(1 + -(-width * CHANNELS[kind] * depth // 8))
    data = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    return SIGNATURE + header(width, height, depth, kind) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def grey_jpeg(width: int, height: int) -> bytes:
    """A JPEG of mid-grey, made without its pixels: each 8 x 8 of them are the same six bits."""
    small = io.BytesIO()
    Image.new("L", (8, 8), 128).save(small, "JPEG", quality=75)
    head, scan, _ = small.getvalue().partition(b"\xff\xda\0\x08\1\1\0\0\x3f\0")
    head = head.replace(struct.pack(">HH", 8, 8), struct.pack(">HH", height, width), 1)
    return head + scan + b"\x28\xa2\x8a" * -(-(-(-width // 8) * -(-height // 8)) // 4) + b"\xff\xd9"


def png(
    samples: NDArray[np.uint16], depth: int, kind: int, *beside: bytes, after: bytes = b"", interlaced: bool = False
) -> bytes:
    """`samples` (H, W, C). `beside`: chunks before the pixels; `after`: behind them."""
    height, width, _ = samples.shape
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    data = zlib.compress(b"".join(_rows(samples[y::down, x::right], depth) for x, y, right, down in passes))
    parts = (header(width, height, depth, kind, interlaced), *beside, chunk(b"IDAT", data), after, chunk(b"IEND", b""))
    return SIGNATURE + b"".join(parts)


def _rows(samples: NDArray[np.uint16], depth: int) -> bytes:
    """Rows of no filter."""
    height, width, channels = samples.shape
    if samples.size == 0:
        return b""
    flat = samples.reshape(height, width * channels)
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in flat]
    else:
        bits = np.unpackbits(flat.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :].reshape(height, -1)
        rows = [np.packbits(row).tobytes() for row in bits]
    return b"".join(b"\0" + row for row in rows)


def iccp(profile: bytes, checksum: int | None = None) -> bytes:
    return chunk(b"iCCP", b"a name\0\0" + zlib.compress(profile), checksum)


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))


def chrm(*chromaticities: float) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in chromaticities)))


def rgb_profile(
    colorants: Sequence[Sequence[float]],
    gamma: float,
    description: str = "",
    padding: int = 0,
    curve: bytes | None = None,
) -> bytes:
    """`padding`: bytes of a tag that nobody knows. `curve`: a tag, in place of the one of `gamma`."""
    tags = {name + b"XYZ": _xyz(values) for name, values in zip((b"r", b"g", b"b"), colorants, strict=True)}
    tags |= {name + b"TRC": curve or _gamma(gamma) for name in (b"r", b"g", b"b")}
    return _profile(b"RGB ", tags | {b"more": b"data" + bytes(4 + padding)}, description)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", {b"kTRC": _gamma(gamma)}, "grey")


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *(round(value * 65536) for value in values))


def _gamma(gamma: float) -> bytes:
    return b"curv" + struct.pack(">4xIH", 1, round(gamma * 256))


def _profile(space: bytes, tags: Mapping[bytes, bytes], description: str) -> bytes:
    words = description.encode() + b"\0"
    text = b"desc" + struct.pack(">4xI", len(words)) + words + bytes(78)
    tags = {b"desc": text, b"wtpt": _xyz(D50), **tags}
    at = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    start = struct.pack(">I4xI4s4s4s", at + len(data), 0x02400000, b"mntr", space, b"XYZ ")
    start = (start.ljust(36, b"\0") + b"acsp").ljust(68, b"\0") + _xyz(D50)[8:]
    return start.ljust(128, b"\0") + table + data
