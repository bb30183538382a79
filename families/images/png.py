"""PNG: its chunks, its transparency, and 16 bits a channel."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from PIL import Image

from families.images import spaces
from families.images.colour import Array, meaning
from families.images.flat import Box, levels, over_white, strips
from families.images.source import MAX_PARTS, MAX_PROFILE_BYTES, About, Source

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""Colour types."""
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass of an interlaced picture: its first column and row, and the distances to the next."""
_MAX_TEXT_BYTES = 1 << 20
_SLICE = 1 << 14
"""Bytes decompressed at once: they become 16 MiB at most."""


class Chunk(NamedTuple):
    """One chunk. `sound`: whether its checksum is right."""

    name: bytes
    content: bytes
    sound: bool


@dataclass(frozen=True)
class Png(Source):
    """A PNG. `depth`: bits a sample. `transparency`: what its chunk tRNS holds. `data_at`: where in `pixels` the
    compressed data begin."""

    FORMAT: ClassVar[str] = "PNG"
    depth: int = 8
    colour_type: int = RGB
    transparency: bytes = b""
    data_at: int = 0

    def flat(self, picture: Image.Image, reduction: int) -> Image.Image:  # noqa: ARG002
        self._require_all_rows()
        if self.colour_type == PALETTE:
            return self._painted(picture)
        greys = self.colour_type in (GREY, GREY_ALPHA)
        colours = meaning(self.profiles, 1 if greys else 3)
        if (self.colour_type, self.depth) == (RGB, 8) and self._key() is None:
            picture.load()
            return colours.picture(picture)
        return over_white(picture.size, self._samples(picture), colours, self._key())

    def alpha(self, picture: Image.Image) -> Image.Image:
        """How opaque each pixel is, (H, W) 8 bits; 0 is wholly transparent, of 16 bits too. Raises as `flat` does."""
        self._require_all_rows()
        if self.colour_type == PALETTE:
            picture.load()
            opaque = bytes(self.transparency[:256]).ljust(256, b"\xff")
            return Image.fromarray(np.frombuffer(opaque, np.uint8)[np.asarray(picture)])
        samples, key, made = self._samples(picture), self._key(), Image.new("L", picture.size, 255)
        for box in strips(picture.size):
            part = samples(box)
            if self.colour_type in (GREY_ALPHA, RGB_ALPHA):
                opaque_part = part[..., -1] if part.dtype == np.uint8 else np.minimum(part[..., -1], 255)
            else:
                opaque_part = np.where((part == np.array(key)).all(-1), 0, 255) if key else np.full(part.shape[:2], 255)
            made.paste(Image.fromarray(opaque_part.astype(np.uint8)), box)
        return made

    def _require_all_rows(self) -> None:
        """Raises ValueError when the compressed data end before the pixels do: Pillow takes what lacks for black."""
        header, data = self.pixels[16:29], self.pixels[self.data_at :]
        width, height = struct.unpack(">II", header[:8])
        passes = _ADAM7 if header[12] else ((0, 0, 1, 1),)
        sides = [(-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes]
        bits = self.depth * _CHANNELS[self.colour_type]
        lacking = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sides if columns > 0)
        undo = zlib.decompressobj()
        for at in range(0, len(data), _SLICE):
            lacking -= len(undo.decompress(data[at : at + _SLICE]))
            if lacking <= 0:
                return
        raise ValueError("rows are lacking")

    def _key(self) -> tuple[int, ...] | None:
        """The transparent colour: a tuple of samples, as `_samples` gives them."""
        channels = {GREY: 1, RGB: 3}.get(self.colour_type, 0)
        if not channels or len(self.transparency) < 2 * channels:
            return None
        most = 2**self.depth - 1
        scale = 1 if self.depth == 16 else 255 // most
        return tuple((key & most) * scale for key in struct.unpack_from(f">{channels}H", self.transparency))

    def _samples(self, picture: Image.Image) -> Callable[[Box], Array]:
        """The samples of any box. Pillow has no 16-bit colours: its decoder gives the bytes that make them."""
        if self.depth < 16 or self.colour_type == GREY:
            picture.load()
            if self.depth < 8:
                picture = picture.convert("L")
            return lambda box: _channels(np.asarray(picture.crop(box)))
        if self.colour_type == GREY_ALPHA:
            both = _unpacked(picture, "RGBA")
            return lambda box: np.asarray(both.crop(box)).view(">u2").astype(np.uint16)
        with Image.open(io.BytesIO(self.pixels), formats=("PNG",)) as again:
            low = _unpacked(
                again, f"{picture.mode};16L"
            )  # the lower byte, where a big number is taken for a little one
        high = _unpacked(picture, f"{picture.mode};16B")
        return lambda box: np.asarray(high.crop(box)).astype(np.uint16) << 8 | np.asarray(low.crop(box))

    def _painted(self, picture: Image.Image) -> Image.Image:
        """A palette's entries are made flat, rather than the pixels."""
        picture.load()
        entries = np.array(picture.getpalette("RGB"), np.uint8).reshape(1, -1, 3)
        if (entries == entries[..., :1]).all():
            entries = entries[..., :1]
        alpha = np.full((1, entries.shape[1], 1), 255, np.uint8)
        given = np.frombuffer(self.transparency, np.uint8)[: alpha.size]
        alpha[0, : len(given), 0] = given
        own = levels(np.concatenate([entries, alpha], -1), meaning(self.profiles, entries.shape[-1]))
        picture.putpalette(own.tobytes())
        return picture.convert("RGB")


def read(encoded: bytes) -> Png:
    """Raises ValueError or IndexError when it has no header or no pixels."""
    critical, beside = _split(encoded)
    depth, colour_type = critical[b"IHDR"][8:10]
    if b"IDAT" not in critical:
        raise ValueError("no pixels")
    pixels = b"".join(_chunk(name, content) for name, content in critical.items())
    return Png(
        pixels=SIGNATURE + pixels + _chunk(b"IEND", b""),
        profiles=tuple(_profiles(beside, depth)),
        exif=_exif(beside),
        xmp=_xmp(beside),
        depth=depth,
        colour_type=colour_type,
        transparency=beside.get(b"tRNS", b""),
        data_at=len(SIGNATURE) + len(pixels) - 4 - len(critical[b"IDAT"]),
    )


def has_alpha(encoded: bytes) -> bool:
    """Whether some of its pixels may be transparent. Raises as `read` does."""
    critical, beside = _split(encoded, pixels=False)
    return critical[b"IHDR"][9] in (GREY_ALPHA, RGB_ALPHA) or bool(beside.get(b"tRNS"))


def about(encoded: bytes) -> About:
    """Raises ValueError, KeyError or struct.error when it has no header."""
    critical, beside = _split(encoded, pixels=False)
    width, height = struct.unpack_from(">II", critical[b"IHDR"])
    return About((width, height), _exif(beside), _xmp(beside))


def _split(encoded: bytes, *, pixels: bool = True) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """What the pixels are made of, in order; and the first sound chunk of each other kind, texts by kind and keyword.

    `pixels`: whether they themselves, of which there may be many megabytes, are copied too.
    Raises ValueError when the header or the palette is broken, or there are too many chunks.
    """
    critical: dict[bytes, bytes] = {}
    data: list[bytes] = []
    beside: dict[bytes, bytes] = {}
    for chunk in _chunks(encoded, pixels):
        if chunk.name == b"IDAT":
            data.append(chunk.content)
        elif chunk.name in (b"IHDR", b"PLTE"):
            if not chunk.sound:
                raise ValueError("broken header")
            if not data:
                critical.setdefault(chunk.name, chunk.content)
        elif chunk.sound or chunk.name == b"iCCP":  # a profile has a checksum of its own
            text = chunk.name in (b"tEXt", b"zTXt", b"iTXt")
            name = chunk.name + (chunk.content.partition(b"\0")[0] if text else b"")
            if not data or text or name == b"eXIf":
                beside.setdefault(name, chunk.content)
    if data:
        critical[b"IDAT"] = b"".join(data)
    return critical, beside


def _chunks(encoded: bytes, pixels: bool) -> Iterator[Chunk]:
    """Up to IEND, or as far as the file goes. Raises ValueError when there are too many."""
    at = len(SIGNATURE)
    for _ in range(MAX_PARTS):
        if at + 8 > len(encoded):
            return
        length, name = struct.unpack_from(">I4s", encoded, at)
        if name == b"IEND":
            return
        held = length if pixels or name != b"IDAT" else 0
        content, checksum = encoded[at + 8 : at + 8 + held], encoded[at + 8 + length : at + 12 + length]
        sound = name == b"IDAT" or checksum == struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
        yield Chunk(name, content, sound)
        at += 12 + length
    raise ValueError("too many chunks")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))


def _unpacked(picture: Image.Image, layout: str) -> Image.Image:
    """The picture, loaded with its samples' bytes taken as another layout of the same length."""
    picture.tile = [tile._replace(args=layout) for tile in picture.tile]  # type: ignore[attr-defined]
    picture.load()
    return picture


def _channels(array: Array) -> Array:
    return array if array.ndim == 3 else array[..., None]


def _profiles(beside: dict[bytes, bytes], depth: int) -> Iterator[bytes]:
    """Of the chunks that tell colours: each says more than those after it (PNG, 3rd edition, 4.3)."""
    named = spaces.of_cicp(beside.get(b"cICP", b""), depth)
    if named:
        yield named
    compressed = beside.get(b"iCCP", b"").partition(b"\0")[2]
    if compressed[:1] == b"\0":
        yield _inflated(compressed[1:], MAX_PROFILE_BYTES)
    if not beside.get(b"sRGB"):
        of_gamma = spaces.of_gamma(beside.get(b"gAMA"), beside.get(b"cHRM"))
        if of_gamma:
            yield of_gamma


def _inflated(compressed: bytes, most: int) -> bytes:
    """As far as it can be undone; nothing where it is broken, or becomes more than `most` bytes."""
    with contextlib.suppress(zlib.error):
        content = zlib.decompressobj().decompress(compressed, most + 1)
        if len(content) <= most:
            return content
    return b""


def _exif(beside: dict[bytes, bytes]) -> bytes:
    return beside.get(b"eXIf") or _exif_as_text(beside)


def _exif_as_text(beside: dict[bytes, bytes]) -> bytes:
    """EXIF as ImageMagick writes it: a keyword's text of a name, a length, and hexadecimal."""
    keyword = b"Raw profile type exif"
    text = beside.get(b"tEXt" + keyword, b"").partition(b"\0")[2]
    text = text or _inflated(beside.get(b"zTXt" + keyword, b"").partition(b"\0")[2][1:], _MAX_TEXT_BYTES)
    with contextlib.suppress(ValueError):
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("latin-1"))
    return b""


def _xmp(beside: dict[bytes, bytes]) -> bytes:
    """Text of keyword, flag, method, language and translated keyword."""
    content = beside.get(b"iTXtXML:com.adobe.xmp", b"").partition(b"\0")[2]
    text = content[2:].partition(b"\0")[2].partition(b"\0")[2]
    return _inflated(text, _MAX_TEXT_BYTES) if content[:1] == b"\1" else text
