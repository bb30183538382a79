"""Autoencoders whose engines hold a part of the largest picture, and compute it in tiles."""

from collections.abc import Sequence
from dataclasses import replace

from families.interface import PIXELS, VISION_ENCODER, Component


def tiled(plain: Sequence[Component], small: Sequence[Component]) -> list[Component]:
    """The table `plain`, but for the autoencoder, which takes and gives `pixels`: that of `small`, made for a tile."""
    return [_parted(whole, part) for whole, part in zip(plain, small, strict=True)]


def _parted(whole: Component, part: Component) -> Component:
    most = {axis: whole.ranges[axis].max for axis in whole.inputs[0].axes if isinstance(axis, str)}
    of_pictures = PIXELS in {tensor.name for tensor in (*whole.inputs, *whole.outputs)}
    # What looks at a picture for a text encoder sees all of it at once.
    parted = of_pictures and whole.name != VISION_ENCODER and part.ranges != whole.ranges
    return replace(part, whole=most) if parted else whole
