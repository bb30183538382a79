"""What becomes of a made picture before it is written: the answer's size. Knows pixels, and nothing of Triton."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from families.edit import Edit
from families.interface import Tensors
from families.picture import scaled


def inputs(edit: Edit) -> Tensors:
    """What `render` takes beside the decoder's inputs. Without a safety checker these are all."""
    return {
        "response_format": np.array([edit.response_format.encode()], np.object_),
        "answer_size": np.array(edit.size, np.int32),
    }


def finished(rgb: NDArray[Any], size: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) uint8, scaled to `size` (width, height) by Lanczos; itself where it has it."""
    width, height = size.tolist()
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(scaled(Image.fromarray(rgb), (width, height)))
