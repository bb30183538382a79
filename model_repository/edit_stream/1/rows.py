"""The rows of one denoiser call: each edit's part of them, and how parts are joined.

Knows arrays and nothing of Triton, of models, or of what tensors mean.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from families.interface import Tensors


@dataclass(frozen=True)
class Part:
    """One edit's rows of a call.

    `edit` tells edits apart, for as long as the server runs. `constant` inputs are the same at each of its steps,
    `changing` ones are not; the first axis of each is its `rows`. Parts of one `group` are alike in all lengths.
    """

    edit: int
    group: Hashable
    rows: int
    constant: dict[str, NDArray[Any]]
    changing: dict[str, NDArray[Any]]


class Denoiser(Protocol):
    """One forward pass. Rows do not influence one another."""

    def __call__(self, parts: Sequence[Part]) -> Sequence[NDArray[Any]]:
        """Parts of one kind, in any order -> the prediction of each, as long as the longest part's. Raises whatever the
        engine raises.

        Predictions may be overwritten by the next call of the first part's group, and once that is forgotten.
        """

    def forget(self, group: Hashable) -> None:
        """No edit of this group is left."""


class JoinedRows:
    """Hands the parts of a call to `run` as whole arrays."""

    def __init__(self, run: Callable[[Tensors], NDArray[Any]]) -> None:
        self._run = run
        # Group -> its edits, each with how many rows; joined.
        self._constants: dict[Hashable, tuple[Sequence[tuple[int, int]], Tensors]] = {}

    def __call__(self, parts: Sequence[Part]) -> Sequence[NDArray[Any]]:
        """As Denoiser says."""
        return split(self._run({**self._joined(parts), **join([part.changing for part in parts])}), parts)

    def forget(self, group: Hashable) -> None:
        """Lets its constants go."""
        self._constants.pop(group, None)

    def _joined(self, parts: Sequence[Part]) -> Tensors:
        """The inputs that do not change, joined anew only when the call's edits have changed."""
        edits = [(part.edit, part.rows) for part in parts]
        known, joined = self._constants.get(parts[0].group, ((), {}))
        if known != edits:
            joined = join([part.constant for part in parts])
            self._constants[parts[0].group] = (edits, joined)
        return joined


def join(parts: Sequence[Tensors]) -> Tensors:
    """Several edits' inputs as one, along the rows axis. Where they differ in another, zeros fill up to the largest."""
    columns = {name: [part[name] for part in parts] for name in parts[0]}
    return parts[0] if len(parts) == 1 else {name: np.concatenate(_even(arrays)) for name, arrays in columns.items()}


def longest(arrays: Sequence[NDArray[Any]]) -> tuple[int, ...]:
    """The shape of a row into which the rows of all of these go."""
    return tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))


def _even(arrays: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
    row = longest(arrays)
    return [array if array.shape[1:] == row else _filled(array, row) for array in arrays]


def _filled(array: NDArray[Any], row: tuple[int, ...]) -> NDArray[Any]:
    behind = [(0, most - own) for most, own in zip(row, array.shape[1:], strict=True)]
    return np.pad(array, [(0, 0), *behind])


def split(prediction: NDArray[Any], parts: Sequence[Part]) -> Sequence[NDArray[Any]]:
    """Each part's rows of a prediction, as views. Raises ValueError where there are not as many rows."""
    require_rows(len(prediction), parts)
    return np.split(prediction, np.cumsum([part.rows for part in parts])[:-1])


def require_rows(count: int, parts: Sequence[Part]) -> None:
    """Raises ValueError where a prediction has not as many rows as these parts."""
    wanted = sum(part.rows for part in parts)
    if count != wanted:
        raise ValueError(f"the denoiser answered {count} rows to {wanted}")
