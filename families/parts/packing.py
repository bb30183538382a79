"""Latents as tokens, and where each token is: what transformers of pictures take. Latents are (1, C, h, w) arrays."""

from collections.abc import Sequence

import numpy as np

from families.interface import Array

PATCH = 2
"""Latents along one side of a token."""


def pack(latents: Array) -> Array:
    """(1, C, h, w) -> (1, h * w, C), row by row."""
    return np.ascontiguousarray(latents.reshape(1, latents.shape[1], -1).transpose(0, 2, 1))


def pack_all(pictures: Sequence[Array], channels: int) -> Array:
    """Any number of (1, `channels`, h, w), none too -> (1, all tokens, `channels`), float32."""
    return np.concatenate([np.empty((1, 0, channels), np.float32), *map(pack, pictures)], axis=1)


def unpack(tokens: Array, height: int, width: int) -> Array:
    """(1, height * width, C) -> (1, C, height, width)."""
    return np.ascontiguousarray(tokens.transpose(0, 2, 1).reshape(1, tokens.shape[2], height, width))


def all_positions(pictures: Sequence[Array], numbers: Sequence[int], axes: int = 4) -> Array:
    """Any number of (1, C, h, w), none too, each with its number -> (1, all tokens, axes) float32."""
    sizes = (one.shape[2:] for one in pictures)
    each = [positions(h, w, number, axes) for (h, w), number in zip(sizes, numbers, strict=True)]
    return np.concatenate([np.empty((1, 0, axes), np.float32), *each], axis=1)


def positions(height: int, width: int, picture: int, axes: int = 4) -> Array:
    """(1, height * width, axes) float32: picture, row, column, and 0 where there is a fourth."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    same = np.full(height * width, picture)
    stacked = np.stack([same, rows.ravel(), columns.ravel(), np.zeros_like(same)], axis=1)
    found: Array = stacked[None, :, :axes].astype(np.float32)
    return found
