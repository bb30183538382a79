"""A picture as text becomes bytes: data URL or base64, its size known before it is decoded.

Knows the first bytes of three formats and no more: pixels, headers and decoding are `preprocess`'s, which also
guards callers that come over gRPC.
"""

import binascii
import io
import re
from typing import Final

from gateway.errors import KINDS, PublicError

IMAGE: Final = "image"
MASK: Final = "mask"
_NEITHER: Final = "is neither an http or https URL nor base64, bare or in a data URL."
NOT_BASE64: Final = f"{IMAGE}: {_NEITHER}"
NO_PNG: Final = f"{KINDS['mask_invalid'].message} The mask is not a PNG with an alpha channel."
PNG: Final = b"\x89PNG\r\n\x1a\n"
_SLICE: Final = 1 << 18  # characters decoded at once; other threads get their turn between slices
_BLANKS: Final = " \t\r\n"
_PLAIN: Final = bytes.maketrans(b"-_", b"+/")  # the URL-safe alphabet as the usual one
_DATA_URL: Final = re.compile(  # of a hundred million blanks none is given back: that would take seconds
    r"[ \t\r\n]*+data:[^,;]{0,100}(;[^,;]{0,100}){0,5};base64,", re.ASCII | re.IGNORECASE
)
_URL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,20}://")


def is_url(text: str) -> bool:
    """Whether `text` names a scheme and an authority, of any kind."""
    return _URL.match(text) is not None


def check_ascii(text: str, name: str = IMAGE) -> None:
    """Raises `PublicError` when `text` is not ASCII: it is no image then, and takes up to four bytes a character.

    `name`: the field that it is of.
    """
    if not text.isascii() and is_url(text):
        raise PublicError("image_url_unusable", param=name)
    if not text.isascii():
        raise _unreadable(name, f"{name}: {_NEITHER}")


def decoded_size(text: str, start: int) -> int:
    """Bytes that the base64 in `text[start:]` will decode to, as its characters are counted, not read."""
    beside = sum(text.count(one, start) for one in (*_BLANKS, "="))
    return (len(text) - start - beside) * 3 // 4


def decode(text: str, max_bytes: int, name: str = IMAGE) -> bytes:
    """A data URL or bare base64 as bytes, of the field `name`: `image` or `mask`.

    Raises `PublicError`: too large (before decoding), or not base64.
    Base64 may have blanks and line breaks anywhere, either alphabet, and no padding.
    """
    data_url = _DATA_URL.match(text)
    start = data_url.end() if data_url else 0
    if decoded_size(text, start) > max_bytes:
        raise _too_many(max_bytes, name)
    try:
        content = _undone(text, start)
    except ValueError:
        raise _unreadable(name, f"{name}: {_NEITHER}") from None
    return checked(content, max_bytes, name)


def _undone(text: str, start: int) -> bytes:
    """Base64 undone, slice by slice. Raises `ValueError` when it is not base64."""
    content, rest, padding = io.BytesIO(), b"", 0
    for at in range(start, len(text), _SLICE):
        part = text[at : at + _SLICE].encode("ascii").translate(_PLAIN, _BLANKS.encode())
        bare = part.rstrip(b"=")
        if padding and bare:
            raise ValueError("padding before the end")
        padding += len(part) - len(bare)
        bare = rest + bare
        whole = len(bare) // 4 * 4
        content.write(binascii.a2b_base64(bare[:whole], strict_mode=True))
        rest = bare[whole:]
    missing = -len(rest) % 4
    if padding > missing:
        raise ValueError("too much padding")
    content.write(binascii.a2b_base64(rest + b"=" * missing, strict_mode=True))
    return content.getvalue()


def checked(content: bytes, max_bytes: int, name: str = IMAGE) -> bytes:
    """`content` again, when it is small enough and begins as a picture does, a mask as PNG. Raises `PublicError`."""
    if len(content) > max_bytes:
        raise _too_many(max_bytes, name)
    if not (content.startswith(PNG) if name == MASK else begins_as_picture(content)):
        raise _unreadable(name, NO_PNG if name == MASK else None)
    return content


def _unreadable(name: str, message: str | None) -> PublicError:
    return PublicError("mask_invalid" if name == MASK else "image_unreadable", param=name, message=message)


def _too_many(max_bytes: int, name: str) -> PublicError:
    message = f"{KINDS['image_too_large'].message} This one may have at most {max_bytes} bytes."
    return PublicError("image_too_large", param=name, message=message)


def begins_as_picture(content: bytes) -> bool:
    """Whether the first bytes are those of JPEG, PNG or WebP."""
    webp = content.startswith(b"RIFF") and content[8:12] == b"WEBP"
    return webp or content.startswith((b"\xff\xd8\xff", PNG))
