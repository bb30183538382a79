"""The calls by which an edit's pictures are encoded. Imports no torch."""

import numpy as np

from families.edit import Edit
from families.interface import REFERENCE, Tensors
from families.sizes import exactly, framed

Asked = tuple[str, Tensors]
"""A model and its inputs, as `Call.together` takes them."""


def each(edit: Edit, rule: bytes) -> list[Asked]:
    """Every picture at the size that a family's size rule gives it; none where there are none."""
    return [reference(image, rule) for image in edit.images]


def in_frame(edit: Edit) -> Asked:
    """The first picture, whole, on the grid of the picture that is made."""
    return reference(edit.images[0], framed(edit.own or edit.size, edit.size, edit.working).to_json())


def at_working_size(edit: Edit) -> Asked:
    """The first picture, which has the answer's aspect, on the grid of the picture that is made."""
    return reference(edit.images[0], exactly(edit.working).to_json())


def reference(image: bytes, rule: bytes) -> Asked:
    """One picture's call of the ensemble `reference`."""
    return REFERENCE, {"image": np.array([image], np.object_), "size_rule": np.array([rule], np.object_)}
