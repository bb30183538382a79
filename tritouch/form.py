"""One edit as a form in OpenAI's dialect: what callers give in Python becomes fields and files.

Knows the names of the API's fields, and none of their bounds: those are the server's to tell.
"""

from __future__ import annotations

import io
import os
import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict, cast

from tritouch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

Format: TypeAlias = Literal["png", "jpeg", "webp"]
ImageSource: TypeAlias = "Image.Image | bytes | str | os.PathLike[str]"
"""A picture: of Pillow, the bytes of a JPEG, PNG or WebP file, or such a file's path."""
Images: TypeAlias = "ImageSource | Sequence[ImageSource]"
"""One of them, or a list or tuple."""

_FIELDS: Final = {
    "model": "model",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "image_guidance": "image_guidance_scale",
    "negative_prompt": "negative_prompt",
    "cache": "cache",
    "size": "size",
    "format": "output_format",
    "quality": "output_compression",
}
_PNG_MODES: Final = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
_DRAWN_BITS: Final = 53
"""Of a seed that is drawn here: such numbers are whole in every JSON."""


class Options(TypedDict, total=False):
    """What an edit may say beside its pictures and its prompt. Absent or None: the server's own.

    model: route of an adapter, or several (`oil:0.7+ink`).
    steps: denoising steps. guidance: how closely the prompt is followed. image_guidance: how closely the picture is
    kept.
    negative_prompt: what is not wanted.
    cache: `off`, or `balanced`: steps that can be foretold from those before are not computed.
    seed: 0 to 2^64 - 1; drawn here below 2^53 where absent, so that a request that is sent again is the same edit.
    size: `auto`, or `WIDTHxHEIGHT` in pixels.
    mask: a picture with alpha, as large as the first one; the edit is made where alpha is 0.
    format: png (unless given), jpeg or webp. quality: of jpeg and webp, 0 to 100.
    low_priority: background work, done in what others leave free.
    key: the Idempotency-Key, drawn where absent: requests with one key and the same content are one edit.
    """

    model: str | None
    steps: int | None
    guidance: float | None
    image_guidance: float | None
    negative_prompt: str | None
    cache: str | None
    seed: int | None
    size: str | None
    mask: ImageSource | None
    format: Format | None
    quality: int | None
    low_priority: bool
    key: str | None


@dataclass(frozen=True)
class EditForm:
    """What is sent: text fields, files (name, content), headers. `seed` is that of the first of `n` pictures."""

    fields: dict[str, str]
    files: list[tuple[str, bytes]]
    headers: dict[str, str]
    seed: int
    n: int


def form_of(images: Images, prompt: str, options: Options, *, n: int = 1, previews: int | None = None) -> EditForm:
    """The form of one edit; `previews`: a stream with so many of them. Raises `UsageError`: an image cannot be read."""
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise TypeError(f"an edit has no option {sorted(unknown)[0]!r}")
    given = options.get("seed")
    seed = secrets.randbits(_DRAWN_BITS) if given is None else given
    fields = {"prompt": prompt, "seed": str(seed), "output_format": "png"}
    values: dict[str, object] = dict(options)
    fields |= {field: str(values[name]) for name, field in _FIELDS.items() if values.get(name) is not None}
    if n != 1:
        fields["n"] = str(n)
    if previews is not None:
        fields |= {"stream": "true", "progress": "true", "partial_images": str(previews)}
    _check_texts(fields)
    key = options.get("key") or uuid.uuid4().hex
    if not (key.isascii() and key.isprintable()):
        raise UsageError("an Idempotency-Key is of printable ASCII characters alone")
    headers = {"Idempotency-Key": key}
    if options.get("low_priority"):
        headers["X-Priority"] = "low"
    return EditForm(fields, _files(images, options.get("mask")), headers, seed, n)


def _check_texts(fields: dict[str, str]) -> None:
    """Raises `UsageError`: a shell's bytes that are no UTF-8."""
    for name, text in fields.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{name}: this is not UTF-8") from None


def _files(images: Images, mask: ImageSource | None) -> list[tuple[str, bytes]]:
    several: Sequence[ImageSource] = images if isinstance(images, (list, tuple)) else [cast("ImageSource", images)]
    if not several:
        raise UsageError("give at least one picture")
    name = "image" if len(several) == 1 else "image[]"
    files = [(name, content_of(one)) for one in several]
    return files if mask is None else [*files, ("mask", content_of(mask))]


def content_of(image: ImageSource) -> bytes:
    """The bytes of a picture's file; Pillow's pictures become PNG, upright. Raises `UsageError`."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise UsageError(f"{os.fspath(image)}: {error.strerror or error}") from None
    return _png(image)


def _png(image: Image.Image) -> bytes:
    from PIL import ImageOps  # noqa: PLC0415  # half of the client's imports, and the command line needs none of it

    upright = ImageOps.exif_transpose(image)
    out = io.BytesIO()
    (upright if upright.mode in _PNG_MODES else upright.convert("RGB")).save(out, "PNG")
    return out.getvalue()
