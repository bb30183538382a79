"""Which format a file is of, by its first bytes."""

from families.images import jpeg, png, webp
from families.images.source import Source


def read(encoded: bytes) -> Source:
    """The file, split. Raises ValueError, LookupError or struct.error when it is none of ours, or holds no picture."""
    if encoded.startswith(jpeg.SIGNATURE):
        return jpeg.read(encoded)
    if encoded.startswith(png.SIGNATURE):
        return png.read(encoded)
    if webp.matches(encoded):
        return webp.read(encoded)
    raise ValueError("another format")
