"""What a request asks for beside the edit itself: how many pictures, how soon, and what is told meanwhile."""

from dataclasses import dataclass

from families.errors import PARAMETER_INVALID, InvalidEditError
from families.interface import Tensors

MAX_PICTURES = 10
MAX_PREVIEWS = 3
SEEDS = 1 << 64


@dataclass(frozen=True)
class Asked:
    """`pictures`: of as many seeds, each one more than the last. `previews`: of each picture, at most."""

    pictures: int = 1
    low_priority: bool = False
    progress: bool = False
    previews: int = 0


def read(given: Tensors) -> Asked:
    """From the inputs of a request; what is absent or 0 is the default. Raises InvalidEditError, naming the input."""
    pictures, previews = _number(given, "n"), _number(given, "partial_images")
    if not 0 <= pictures <= MAX_PICTURES:
        raise InvalidEditError(PARAMETER_INVALID, f"n must be 1 to {MAX_PICTURES}")
    if not 0 <= previews <= MAX_PREVIEWS:
        raise InvalidEditError(PARAMETER_INVALID, f"partial_images must be 0 to {MAX_PREVIEWS}")
    low_priority, progress = bool(_number(given, "low_priority")), bool(_number(given, "progress"))
    return Asked(pictures or 1, low_priority, progress, previews)


def seeds(first: int, count: int) -> list[int]:
    """The seeds of so many pictures."""
    return [(first + place) % SEEDS for place in range(count)]


def _number(given: Tensors, name: str) -> int:
    return int(given[name][0]) if name in given else 0
