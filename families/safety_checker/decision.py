"""Whether the safety checker refuses a picture, from how near it is to the concepts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from families.errors import PICTURE_REFUSED, InvalidEditError
from families.interface import Array, Tensors
from families.safety_checker import CONCEPTS, SPECIAL

STRICTER = 0.01
"""What is added where a picture is near to one of the special concepts, which by themselves refuse nothing."""


def require_safe(seen: Tensors, thresholds: Mapping[str, Any]) -> None:
    """Raises InvalidEditError for a picture whose cosines (1, special) and (1, concepts) pass their thresholds."""
    if refuses(seen[SPECIAL][0], seen[CONCEPTS][0], thresholds):
        raise InvalidEditError(PICTURE_REFUSED, "the safety checker refuses the picture that was made")


def refuses(special: Array, concepts: Array, thresholds: Mapping[str, Any]) -> bool:
    """As diffusers' `StableDiffusionSafetyChecker.forward` has it: rounded to three places, then above 0.

    What it lets pass and we do not: a cosine that is no finite number, which says nothing of the picture.
    """
    if not (np.isfinite(special).all() and np.isfinite(concepts).all()):
        return True
    stricter = STRICTER if _above(special, thresholds[SPECIAL], 0.0) else 0.0
    return _above(concepts, thresholds[CONCEPTS], stricter)


def _above(cosines: Array, thresholds: Any, more: float) -> bool:
    return bool((np.round(cosines - np.array(thresholds, np.float32) + np.float32(more), 3) > 0).any())
