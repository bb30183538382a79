"""What samples mean as colours: levels of sRGB, by the curves and primaries of a profile.

lcms does the work. Pillow hands it 8 bits a channel, or 16 of a grey: so 16-bit RGB goes through a profile's curves one
by one, and the primaries are mixed here.
"""

import contextlib
import io
import struct
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from families.images import icc
from families.images.source import MAX_PROFILE_BYTES

Array = NDArray[Any]
"""Samples: (H, W, C) uint8 or uint16, whose type's range is used in full; C is 1 for greys, 3 for RGB.
Levels: (H, W, 3) uint8 or float32 in [0, 255]."""

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_LINEAR_GREY = ImageCms.ImageCmsProfile(io.BytesIO(icc.grey(icc.LINEAR)))
_RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


class Colours(Protocol):
    """What the samples of one picture mean."""

    def levels(self, samples: Array) -> Array:
        """Samples -> levels, not rounded where 16 bits say more."""

    def picture(self, picture: Image.Image) -> Image.Image:
        """A picture of mode RGB or CMYK as RGB. It may be overwritten."""


class Plain:
    """sRGB already, or nothing is known."""

    def levels(self, samples: Array) -> Array:
        """`Colours.levels`."""
        levels = samples if samples.dtype == np.uint8 else samples.astype(np.float32) / np.float32(257)
        return levels if samples.shape[-1] == 3 else np.repeat(levels, 3, -1)

    def picture(self, picture: Image.Image) -> Image.Image:
        """`Colours.picture`."""
        return picture if picture.mode == "RGB" else picture.convert("RGB")


class _Managed(Plain):
    """Of three channels, or four: by lcms, 8 bits at a time."""

    def __init__(self, profile: ImageCms.ImageCmsProfile, mode: str) -> None:
        self._to_srgb = _transform(profile, _SRGB, mode, "RGB", ImageCms.Flags.NONE)

    def levels(self, samples: Array) -> Array:
        if samples.dtype == np.uint16:
            samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.asarray(self.picture(Image.fromarray(np.ascontiguousarray(samples))))

    def picture(self, picture: Image.Image) -> Image.Image:
        return self._to_srgb.apply_in_place(picture) if picture.mode == "RGB" else self._to_srgb.apply(picture)


class _Shaped(_Managed):
    """Of three curves and three primaries: 16 bits, too."""

    def __init__(self, profile: ImageCms.ImageCmsProfile, tags: dict[bytes, bytes]) -> None:
        super().__init__(profile, "RGB")
        self._tags = tags
        self._mixing = (_primaries(profile) @ np.linalg.inv(_primaries(_SRGB))).astype(np.float32)

    @cached_property
    def _curves(self) -> list[Array]:
        return [_curve(self._tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]

    def levels(self, samples: Array) -> Array:
        if samples.dtype == np.uint8:
            return super().levels(samples)
        light = np.stack([curve[samples[..., channel]] for channel, curve in enumerate(self._curves)], -1)
        mixed = np.clip(light @ self._mixing, 0.0, 1.0)
        encoded: Array = _ENCODED[(mixed * np.float32(65535) + np.float32(0.5)).astype(np.uint16)]
        return encoded


class _Greys(Plain):
    """Of one channel: a table of what each of 65536 greys is."""

    def __init__(self, table: Array) -> None:
        self._table, self._table_of_bytes = table, table[::257].round().astype(np.uint8)

    def levels(self, samples: Array) -> Array:
        table = self._table if samples.dtype == np.uint16 else self._table_of_bytes
        return np.asarray(table[samples[..., 0]])


def meaning(profiles: Sequence[bytes], channels: int) -> Colours:
    """The colours of the first of the profiles that can be used for samples of 1, 3 or 4 channels."""
    for profile in profiles:
        with contextlib.suppress(OSError, TypeError, ValueError, KeyError, struct.error, ImageCms.PyCMSError):
            if len(profile) <= MAX_PROFILE_BYTES:
                colours = _of_profile(profile, channels)
                return colours if channels == 4 or _moves(colours, channels) else Plain()
    return Plain()


def _of_profile(profile: bytes, channels: int) -> Colours:
    """Raises ValueError and others when it does not fit. Greys are often tagged as the RGB that they come from."""
    space, opened = icc.space(profile), ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if (space, channels) == (b"CMYK", 4):
        return _Managed(opened, "CMYK")
    if (space, channels) == (b"GRAY", 1):
        table = _transform(opened, _SRGB, "I;16", "RGB").apply(Image.fromarray(_RAMP))
        return _Greys(np.asarray(table, np.float32).reshape(-1, 3))
    if space != b"RGB " or channels == 4:
        raise ValueError("a profile of other channels")
    shaped = icc.is_curves_and_matrix(profile)
    colours = _Shaped(opened, icc.tags(profile)) if shaped else _Managed(opened, "RGB")
    if channels == 3:
        return colours
    return _Greys(colours.levels(np.stack([_RAMP] * 3, -1)).astype(np.float32).reshape(-1, 3))


def _moves(colours: Colours, channels: int) -> bool:
    """Whether any of many colours changes by more than a level. Where none does, moving one would be for nothing."""
    ramp = np.arange(256, dtype=np.uint8)
    lattice = np.stack(np.meshgrid(*[ramp[::15]] * 3, indexing="ij"), -1).reshape(-1, 3)
    probe = ramp[:, None] if channels == 1 else np.concatenate([lattice, np.stack([ramp] * 3, -1)])
    moved = colours.levels(probe[None]).astype(np.float32) - Plain().levels(probe[None])
    return bool(np.abs(moved).max() > 1.0)


def _transform(
    source: ImageCms.ImageCmsProfile,
    target: ImageCms.ImageCmsProfile,
    mode: str,
    to: str,
    flags: ImageCms.Flags = ImageCms.Flags.NOOPTIMIZE,
) -> ImageCms.ImageCmsTransform:
    """lcms's shortcuts are exact enough for RGB, and ten levels wrong in dark greys."""
    colorimetric = ImageCms.Intent.RELATIVE_COLORIMETRIC
    return ImageCms.ImageCmsTransform(source, target, mode, to, colorimetric, flags=flags)


def _curve(tag: bytes) -> Array:
    """What lcms makes of a curve: (65536,) float32 in [0, 1]."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc.grey(tag)))
    light = _transform(profile, _LINEAR_GREY, "I;16", "I;16").apply(Image.fromarray(_RAMP))
    return np.asarray(light).reshape(-1).astype(np.float32) / np.float32(65535)


def _primaries(profile: ImageCms.ImageCmsProfile) -> NDArray[np.float64]:
    """(3, 3): a row of XYZ, adapted to D50, each. Raises ValueError where one is missing."""
    own = profile.profile
    found = [colorant for colorant in (own.red_colorant, own.green_colorant, own.blue_colorant) if colorant]
    return np.array([xyz for xyz, _ in found], np.float64).reshape(3, 3)


def _encoded() -> Array:
    """sRGB's curve (IEC 61966-2-1) from light to levels: (65536,) float32 in [0, 255]."""
    light = np.arange(65536) / 65535
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (signal * 255).astype(np.float32)


_ENCODED = _encoded()
