"""A picture as text becomes bytes: data URL or base64, its size known before it is decoded.

Knows the first bytes of three formats and no more: pixels, headers and decoding are `preprocess`'s, which also
guards callers that come over gRPC.
"""

import binascii
import io
import re

from gateway.errors import PublicError

_SLICE = 1 << 18  # characters decoded at once; other threads get their turn between slices. A multiple of four.
_DATA_URL = re.compile(r"data:[^,;]{0,100}(;[^,;]{0,100}){0,5};base64,", re.ASCII | re.IGNORECASE)
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,20}://")


def is_url(text: str) -> bool:
    """Whether `text` names a scheme and an authority, of any kind."""
    return _URL.match(text) is not None


def check_ascii(text: str) -> None:
    """Raises `PublicError` when `text` is not ASCII: it is no image then, and takes up to four bytes a character."""
    if not text.isascii():
        raise PublicError("image_url_unusable" if is_url(text) else "image_unreadable", param="image")


def decoded_size(text: str, start: int) -> int:
    """Bytes that the base64 in `text[start:]` will decode to, from its length and padding alone."""
    return (len(text) - start) * 3 // 4 - (text[-2:].count("=") if len(text) - start >= 4 else 0)


def decode(text: str, max_bytes: int) -> bytes:
    """A data URL or bare base64 as bytes. Raises `PublicError`: too large (before decoding), or not base64."""
    data_url = _DATA_URL.match(text)
    start = data_url.end() if data_url else 0
    if decoded_size(text, start) > max_bytes:
        raise PublicError("image_too_large", param="image")
    try:
        return checked(_undone(text, start), max_bytes)
    except ValueError:
        raise PublicError("image_unreadable", param="image") from None


def _undone(text: str, start: int) -> bytes:
    """Base64 undone, slice by slice. Raises `ValueError` when it is not base64."""
    content = io.BytesIO()
    for at in range(start, len(text), _SLICE):
        part = text[at : at + _SLICE]
        if part.endswith("=") and at + _SLICE < len(text):
            raise ValueError("padding before the end")
        content.write(binascii.a2b_base64(part, strict_mode=True))
    return content.getvalue()


def checked(content: bytes, max_bytes: int) -> bytes:
    """`content` again, when it is small enough and begins as a picture does. Raises `PublicError` otherwise."""
    if len(content) > max_bytes:
        raise PublicError("image_too_large", param="image")
    if not begins_as_picture(content):
        raise PublicError("image_unreadable", param="image")
    return content


def begins_as_picture(content: bytes) -> bool:
    """Whether the first bytes are those of JPEG, PNG or WebP."""
    webp = content.startswith(b"RIFF") and content[8:12] == b"WEBP"
    return webp or content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))
