"""Calls that come straight from a caller's process on this machine, beside Triton's requests.

On its way through Triton a call wakes seven threads one after another, which takes as long as a short engine computes;
here it wakes one. A request with the parameter ``channel`` has no inputs that matter: it names a Unix socket of the
abstract namespace, to which this process connects. Each message there is a call (`backends.in_place`), and is answered
by a message: by ``=`` and then how many seconds it was computed, and type and shape of what now stands in the room for
the answer (`ANSWER`, and each size as another eight bytes); by ``?`` where it was said by an id that is not known; else
by an error's text as JSON, ``{"error": TEXT}``. The channel is open until the caller closes it, or its process ends.
``model_repository/edit_stream/1/channel.py`` is the other side.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from backends.in_place import Memories, Place, UnknownCallError
from backends.signature import ANY, Array, Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

PARAMETER = "channel"
MOST_BYTES = 1 << 17
"""Of a message."""
ANSWER = struct.Struct("<cd8s")
"""``=``, seconds, and numpy's name of a type, filled up with zeros; then the shape, of which each size is `SIZE`."""
SIZE = "q"
UNKNOWN = b"?"
_NAME = re.compile(r"tritouch-[0-9a-f]{32}")
_MESSAGE_LENGTH = 800


class Infer(Protocol):
    """Runs the model once."""

    def __call__(self, inputs: Mapping[str, Array], place: Place | None = None, /) -> dict[str, Array]:
        """What it returns may be overwritten by its next call. An output that stands at `place` need not be copied."""


class Channels:
    """The open ones of a model, and the model, which computes one call at a time."""

    def __init__(self, signature: Signature, infer: Infer) -> None:
        self._signature, self._infer = signature, infer
        self._memories = Memories(self._accepted)
        self._reading, self._computing = threading.Lock(), threading.Lock()
        self._opened = False

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the model for a request of Triton's. What it returns is overwritten by its next such call at most."""
        with self._computing:
            outputs = self._infer(inputs)
            return {name: array.copy() for name, array in outputs.items()} if self._opened else outputs

    def open(self, name: str) -> None:
        """Connects to the socket of that name. Raises ValueError where there is none."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            if not _NAME.fullmatch(name):
                raise ValueError("it names no socket")
            connection.connect(f"\0{name}")
        except (OSError, ValueError) as error:
            connection.close()
            raise ValueError(f"the parameter {PARAMETER} is of no use: {error}") from None
        self._opened = True
        threading.Thread(target=self._serve, args=(connection,), name="channel", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the caller's process has ended
            while said := connection.recv(MOST_BYTES):
                connection.send(self._answer(said))

    def _answer(self, said: bytes) -> bytes:
        try:
            with self._reading:
                inputs, room = self._memories.read(said)
            with self._computing:
                began = time.perf_counter()
                (output,) = self._infer(inputs, room.array).values()
                seconds = time.perf_counter() - began
                room.write(output)
        except UnknownCallError:
            return UNKNOWN
        except Exception as error:  # noqa: BLE001 - whatever an engine raises must reach its caller, and not end the model
            return json.dumps({"error": one_line(error)}).encode()
        return ANSWER.pack(b"=", seconds, output.dtype.str.encode()) + struct.pack(
            f"<{output.ndim}{SIZE}", *output.shape
        )

    def _accepted(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The model's, which Triton has not seen. Raises ValueError."""
        self._signature.require_whole(inputs)
        for spec in self._signature.inputs:
            if not _accepts(spec, inputs[spec.name]):
                raise ValueError(f"{spec} is {inputs[spec.name].dtype} {list(inputs[spec.name].shape)} in memory")
        return {spec.name: inputs[spec.name] for spec in self._signature.inputs}


def _accepts(spec: TensorSpec, array: Array) -> bool:
    """Whether the config lets it through."""
    return (
        array.dtype == spec.dtype
        and len(array.shape) == len(spec.shape)
        and all(size in {ANY, given} for size, given in zip(spec.shape, array.shape, strict=True))
    )


def one_line(error: Exception) -> str:
    """What is told of an error: engines explain themselves over many lines."""
    return " ".join(str(error).split())[:_MESSAGE_LENGTH]
