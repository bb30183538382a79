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
    `changing` ones are not; the first axis of each is its `rows`. Parts of one `group` may share a call.
    """

    edit: int
    group: Hashable
    rows: int
    constant: dict[str, NDArray[Any]]
    changing: dict[str, NDArray[Any]]


class Denoiser(Protocol):
    """One forward pass. Rows do not influence one another."""

    def __call__(self, parts: Sequence[Part]) -> Sequence[NDArray[Any]]:
        """Parts of one group, in any order -> the prediction of each. Raises whatever the engine raises.

        Predictions may be overwritten by the group's next call.
        """

    def forget(self, group: Hashable) -> None:
        """No edit of this group is left."""


class JoinedRows:
    """Hands the parts of a call to `run` as whole arrays."""

    def __init__(self, run: Callable[[Tensors], NDArray[Any]]) -> None:
        self._run = run
        self._constants: dict[Hashable, tuple[tuple[int, ...], Tensors]] = {}  # group -> its edits, joined

    def __call__(self, parts: Sequence[Part]) -> Sequence[NDArray[Any]]:
        """As Denoiser says."""
        return split(self._run({**self._joined(parts), **join([part.changing for part in parts])}), parts)

    def forget(self, group: Hashable) -> None:
        """Lets its constants go."""
        self._constants.pop(group, None)

    def _joined(self, parts: Sequence[Part]) -> Tensors:
        """The inputs that do not change, joined anew only when the call's edits have changed."""
        edits = tuple(part.edit for part in parts)
        known, joined = self._constants.get(parts[0].group, ((), {}))
        if known != edits:
            joined = join([part.constant for part in parts])
            self._constants[parts[0].group] = (edits, joined)
        return joined


def join(parts: Sequence[Tensors]) -> Tensors:
    """Several edits' inputs as one, along the rows axis. Where (rows, n) differ in n, zeros fill up to the largest."""
    columns = {name: [part[name] for part in parts] for name in parts[0]}
    return parts[0] if len(parts) == 1 else {name: np.concatenate(_even(arrays)) for name, arrays in columns.items()}


def _even(arrays: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
    if len({array.shape[1:] for array in arrays}) == 1:
        return arrays
    width = max(array.shape[1] for array in arrays)
    return [np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in arrays]


def split(prediction: NDArray[Any], parts: Sequence[Part]) -> Sequence[NDArray[Any]]:
    """Each part's rows of a prediction, as views. Raises ValueError where there are not as many rows."""
    ends = np.cumsum([part.rows for part in parts])
    if len(prediction) != ends[-1]:
        raise ValueError(f"the denoiser answered {len(prediction)} rows to {ends[-1]}")
    return np.split(prediction, ends[:-1])
