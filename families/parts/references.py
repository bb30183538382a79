"""The calls by which an edit's pictures are encoded. Imports no torch."""

from collections.abc import Sequence

import numpy as np

from families.edit import Edit
from families.interface import MASK, PREPROCESS, REFERENCE, VIEW, Array, Tensors
from families.masks import Grid
from families.sizes import exactly, framed, size_rule

KEPT = "kept_latents"
"""The first picture's, on the grid of what is made."""
Asked = tuple[str, Tensors]
"""A model and its inputs, as `Call.together` takes them."""


def all_of(edit: Edit, rule: bytes, factor: int) -> list[Asked]:
    """Of a family that sees pictures of any sizes: each at the size that its size rule gives it; and with a mask, the
    mask, and the first picture as large as what is made, where that is another size. `named` knows what comes of it."""
    return [*(reference(image, rule) for image in edit.images), *mask(edit, factor), *_again(edit, rule)]


def named(edit: Edit, made: Sequence[Tensors]) -> Tensors:
    """`reference_0`, `reference_1`, ... (1, C, h, w); with a mask `mask` (1, 1, h, w), `kept_latents` (1, C, h, w)."""
    count = len(edit.images)
    pictures = {f"reference_{place}": given["image_latents"] for place, given in enumerate(made[:count])}
    if not edit.mask:
        return pictures
    first = made[count + 1] if len(made) > count + 1 else made[0]
    return {**pictures, MASK: made[count][MASK], KEPT: first["image_latents"]}


def in_frame(edit: Edit) -> Asked:
    """The first picture, whole, on the grid of the picture that is made."""
    return reference(edit.images[0], framed(edit.own or edit.size, edit.size, edit.working).to_json())


def _again(edit: Edit, rule: bytes) -> list[Asked]:
    """The first picture once more, on the grid of the picture that is made, where a mask keeps of it and the family's
    size rule gives it another size."""
    if not edit.mask or edit.own is None or size_rule(rule).of(*edit.own) == edit.working:
        return []
    return [reference(edit.images[0], exactly(edit.working).to_json())]


def mask(edit: Edit, factor: int) -> list[Asked]:
    """Where the latents, of `factor` pixels a side, of the picture that is made may change; nothing without a mask."""
    if not edit.mask:
        return []
    grid = Grid((edit.working[0] // factor, edit.working[1] // factor))
    return [(PREPROCESS, {"image": _one(edit.mask), "size_rule": _one(grid.to_json())})]


def reference(image: bytes, rule: bytes) -> Asked:
    """One picture's call of the ensemble `reference`."""
    return REFERENCE, {"image": _one(image), "size_rule": _one(rule)}


def view(image: bytes, rule: bytes) -> Asked:
    """One picture's call of the ensemble `view`."""
    return VIEW, {"image": _one(image), "size_rule": _one(rule)}


def _one(content: bytes) -> Array:
    return np.array([content], np.object_)
