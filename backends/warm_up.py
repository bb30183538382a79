"""First calls of an engine before it is ready: weights are packed, and kernels made for shapes, when they first come.

Knows arrays and a callable, and neither Triton nor what runs the model.
"""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from backends.signature import WARM_UP, parameters, read_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backends.signature import Array, Signature

SECONDS = "TRITOUCH_WARM_UP_SECONDS"
"""From the environment: how long the calls of one model may take, about; 0 for none."""
DEFAULT_SECONDS = 60.0


def warm(
    signature: Signature,
    config: Mapping[str, Any],
    infer: Callable[[Mapping[str, Array]], object],
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Makes the calls of ``WARM_UP`` in a parsed ``config.pbtxt``, on zeros, for as long as they may take.

    Returns how many were made.

    The first is made twice, as the second tells how long a call takes. A call is left out, and what comes after it, if
    by the one before it would end too late: as many times longer as its largest input grows.

    Raises:
        ValueError: the parameter, or the setting, is not what it must be.
    """
    limit, began, made = seconds(), clock(), 0
    calls = [_inputs(signature, call) for call in parameters(config).get(WARM_UP, "").split("|") if call]
    before, took = calls[0] if calls else {}, 0.0
    for inputs in [*calls[:1], *calls] if limit else []:
        if made and clock() - began + took * _times(before, inputs) > limit:
            break
        start = clock()
        infer(inputs)
        before, took, made = inputs, clock() - start, made + 1
    return made


def seconds() -> float:
    """The setting. Raises ValueError, naming it, for what is no number of seconds."""
    text = os.environ.get(SECONDS) or str(DEFAULT_SECONDS)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{SECONDS} is {text!r}, and must be seconds, 0 for none")
    return value


def _inputs(signature: Signature, said: str) -> dict[str, Array]:
    shapes = read_shapes(WARM_UP, said, {spec.name: len(spec.shape) for spec in signature.inputs})
    missing = [spec.name for spec in signature.inputs if spec.name not in shapes]
    if missing:
        raise ValueError(f"the parameter {WARM_UP} has no {missing[0]} in {said!r}")
    return {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in signature.inputs}


def _times(before: Mapping[str, Array], after: Mapping[str, Array]) -> float:
    """How many times larger the input is that grows most."""
    return max(after[name].size / max(1, before[name].size) for name in after)
