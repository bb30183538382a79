"""Autoencoders whose engines hold a part of the largest picture, and compute it in tiles."""

from collections.abc import Sequence
from dataclasses import replace

from export.errors import BadInputError
from families.interface import PIXELS, Component

FLAG = "--vae-tile-pixels"


def tiled(plain: Sequence[Component], small: Sequence[Component], *, served_by_ours: bool) -> list[Component]:
    """The table `plain`, with the components that take or give `pixels` as they are in `small`, of a tile's budget.

    `served_by_ours`: whether the backends that compute tiles are those that serve. Raises BadInputError where not.
    """
    if not served_by_ours:
        raise BadInputError(f"{FLAG}: Triton's own TensorRT backend computes pictures whole: leave the flag out")
    return [_parted(whole, part) for whole, part in zip(plain, small, strict=True)]


def _parted(whole: Component, part: Component) -> Component:
    most = {axis: whole.ranges[axis].max for axis in whole.inputs[0].axes if isinstance(axis, str)}
    of_pictures = PIXELS in {tensor.name for tensor in (*whole.inputs, *whole.outputs)}
    return replace(part, whole=most) if of_pictures and part.ranges != whole.ranges else whole
