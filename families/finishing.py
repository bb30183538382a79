"""What becomes of a made picture before it is written: its size, and what a mask keeps. Knows nothing of Triton."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from families.edit import Edit
from families.interface import Tensors
from families.masks import composed
from families.picture import DecodingLimits, scaled


def inputs(edit: Edit) -> Tensors:
    """What `render` takes beside the decoder's inputs and the safety checker's rule; the picture only with a mask."""
    return {
        "response_format": np.array([edit.response_format.encode()], np.object_),
        "answer_size": np.array(edit.size, np.int32),
        "original": np.array([edit.images[0] if edit.mask else b""], np.object_),
        "mask": np.array([edit.mask], np.object_),
    }


def finished(rgb: NDArray[Any], given: Tensors, limits: DecodingLimits) -> NDArray[Any]:
    """(H, W, 3) uint8, scaled by Lanczos to the answer's size, the original outside of a mask. `given`: as `inputs`.

    Raises InvalidEditError where the original or the mask cannot be read.
    """
    width, height = given["answer_size"].tolist()
    if rgb.shape[:2] != (height, width):
        rgb = np.asarray(scaled(Image.fromarray(rgb), (width, height)))
    original, mask = bytes(given["original"][0]), bytes(given["mask"][0])
    return composed(rgb, original, mask, limits) if mask else rgb
