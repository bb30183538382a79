"""The responses to one request: begun, steps, previews, finished pictures, or an error, which ends it."""

import threading
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from families.errors import InvalidEditError
from families.interface import Plan, Tensors
from jobs import CancelledError, ExpiredError, QueueFullError, StoppingError

ERRORS = {
    QueueFullError: ("queue_full", "UNAVAILABLE"),
    ExpiredError: ("expired", "INTERNAL"),
    CancelledError: ("cancelled", "CANCELLED"),
    StoppingError: ("stopping", "UNAVAILABLE"),
}
FAILED = ("failed", "INTERNAL")
"""Codes and the names of Triton's own. What is UNAVAILABLE can be done elsewhere, and proxies send it there; what has
expired must not be. Triton adds `TritonError` to its module only after this one is imported."""


class Responses:
    """What one caller is sent, from any thread. Nothing follows what ends it, nor of a picture what finishes that.

    `numbers`: what the edit is done with, by the names of the outputs. `wanted`: the outputs that were asked for, for
    Triton's sender lets others go without Python's lock, of which Python 3.12 dies. `pictures`: how many there will be.
    `ticketed`: whether the caller is another model. It ends the request by `cancel`, since Triton does not tell of such
    callers. It is sent the pictures alone, when the last is done: an error that is not the first response never comes
    to it, and lets it wait for ever.
    """

    def __init__(
        self, sender: Any, numbers: Tensors, wanted: Collection[str], pictures: int, *, ticketed: bool
    ) -> None:
        self._sender = sender  # dropped with the last response: Triton does not stop as long as there is one
        self._numbers, self._wanted, self._ticketed = numbers, wanted, ticketed
        self._lock = threading.Lock()  # guards the sender, and what is below
        self._unfinished = set(range(pictures))
        self._previews = [0] * pictures
        self._cancelled = False
        self._steps, self._tokens = 0, (0, 0, 0)
        self._held: list[Tensors] = []  # pictures that wait for the last

    def begun(self, plan: Plan) -> None:
        """The edit was taken in and conditioned; every picture's plan is like this. The first response."""
        self._steps, self._tokens = plan.steps, plan.usage
        with self._lock:
            if self._unfinished and not self._ticketed:
                self._send({"step": _int32(0, self._steps), **self._numbers})

    def step(self, index: int, step: int) -> None:
        """So many steps were made of picture `index`."""
        with self._lock:
            if index in self._unfinished and not self._ticketed:
                self._send({"step": _int32(step, self._steps), "index": _int32(index)})

    def awaits(self, index: int) -> bool:
        """Whether picture `index` is still to come: else nothing of it is sent any more."""
        return index in self._unfinished

    def preview(self, index: int, step: int, rendered: Tensors) -> None:
        """What picture `index` looks like after so many steps: `rendered` has `image` and `size`."""
        with self._lock:
            if index in self._unfinished and not self._ticketed:
                told = {"step": _int32(step, self._steps), "index": _int32(index)}
                self._send({**rendered, **told, "partial_index": _int32(self._previews[index])})
                self._previews[index] += 1

    def picture(self, index: int, rendered: Tensors, foretold: int = 0) -> None:
        """Picture `index`, finished: `rendered` has `image` and `size`. The last one is the last response.

        `foretold`: its steps that were not computed.
        """
        with self._lock:
            if index in self._unfinished:
                self._unfinished.remove(index)
                told = {"step": _int32(self._steps, self._steps), "index": _int32(index), "foretold": _int32(foretold)}
                self._held.append({**rendered, **told, **self._numbers, "tokens": _int32(*self._tokens)})
                while self._held and not (self._ticketed and self._unfinished):
                    self._send(self._held.pop(0))

    def failed(self, error: Exception) -> None:
        """An error, and no more pictures."""
        with self._lock:
            if self._unfinished:
                self._unfinished.clear()
                send_error(self._sender, error)
                self._sender = None

    def cancelled(self) -> bool:
        """Whether the caller is gone."""
        with self._lock:  # Triton must not be asked about a request that has ended
            if self._ticketed or not self._unfinished:
                return self._cancelled
            return bool(self._sender.is_cancelled())

    def cancel(self) -> None:
        """The caller wants no answer any more."""
        self._cancelled = True

    def _send(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        sent = [pb_utils.Tensor(name, array) for name, array in tensors.items() if name in self._wanted]
        response = pb_utils.InferenceResponse(sent)
        if self._unfinished or self._held:
            self._sender.send(response)
        else:
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            self._sender = None


def send_error(sender: Any, error: Exception) -> None:
    """Ends a request with `tritouch:CODE` and the error's own words; the caller's own fault is INVALID_ARG."""
    if isinstance(error, InvalidEditError):
        code, status = error.code, "INVALID_ARG"
    else:
        code, status = ERRORS.get(type(error), FAILED)
    fault = pb_utils.TritonError(f"tritouch:{code} {error}", getattr(pb_utils.TritonError, status))
    response = pb_utils.InferenceResponse([], error=fault)
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _int32(*values: int) -> NDArray[np.int32]:
    return np.array(values, np.int32)
