"""Calls of the denoiser straight to its engine's process: a message there, an answer back, tensors in shared memory.

By way of Triton a call wakes seven threads of three processes one after another, which takes as long as a short engine
computes. So Triton is asked once, to have the engine's process come to a socket of ours. `backends/channel.py` is the
other side, and ends with the socket.
"""

import json
import secrets
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from families.errors import InvalidEditError, invalid_edit
from families.interface import Tensors
from jobs import StoppingError

PARAMETER = "channel"
"""Of the request that names the socket."""
MOST_BYTES = 1 << 17
"""Of a message."""
VERSION = 2
"""Of what is said. A repository of another is not served."""
ANSWER, ANSWERED, UNKNOWN = struct.Struct("<cd8s"), b"=", b"?"
SIZE = "q"
COMING_SECONDS = 10.0
"""An engine's process that has answered has come before."""


class ModelError(Exception):
    """A model has failed. The message is its own; its Triton code does not come through BLS."""


def fault(said: str) -> ModelError | InvalidEditError:
    """The error that a model's message tells of."""
    return invalid_edit(said) or ModelError(said)


class Message(Protocol):
    """A call. Said at length once, and then by its name for as long as nothing else has changed."""

    def short(self) -> bytes:
        """As short as it can be said. Who is told UNKNOWN says it whole."""

    def whole(self) -> bytes:
        """At length."""


class Channel:
    """To the denoiser's engine, by a socket of its own for each call that is under way; from any thread.

    `open_` makes the request that names a socket: some input, and the request's parameters. `computed` is told the
    seconds of each call that were the engine's.
    """

    def __init__(
        self, open_: Callable[[Tensors, Mapping[str, str]], object], computed: Callable[[float], None]
    ) -> None:
        self._open, self._computed = open_, computed
        self._idle: list[socket.socket] = []

    def __call__(self, message: Message, some: Tensors) -> tuple[str, tuple[int, ...]]:
        """Type and shape of the prediction, which the engine has written. `some` input lets Triton take a request.

        Raises ModelError, InvalidEditError, or StoppingError where its process has ended: it begins again.
        """
        answer = self._asked(message.short(), some)
        if answer == UNKNOWN:
            answer = self._asked(message.whole(), some)
        if not answer.startswith(ANSWERED):
            raise fault(json.loads(answer)["error"])
        _, seconds, dtype = ANSWER.unpack_from(answer)
        self._computed(seconds)
        sizes = (len(answer) - ANSWER.size) // struct.calcsize(SIZE)
        return dtype.rstrip(b"\0").decode(), struct.unpack_from(f"<{sizes}{SIZE}", answer, ANSWER.size)

    def close(self) -> None:
        """Once no call is under way."""
        while self._idle:
            self._idle.pop().close()

    def _asked(self, message: bytes, some: Tensors) -> bytes:
        try:
            connection = self._idle.pop()
        except IndexError:  # as another thread may have taken the last one
            connection = self._connected(some)
        try:
            connection.send(message)
            answer: bytes = connection.recv(MOST_BYTES)
        except OSError:
            answer = b""
        if not answer:
            connection.close()
            self.close()  # of the same process
            raise StoppingError("the denoiser's process has ended")
        self._idle.append(connection)
        return answer

    def _connected(self, some: Tensors) -> socket.socket:
        """Triton finds that a process has ended, and begins another, when it is asked: so it is asked twice."""
        try:
            return self._come(some)
        except ModelError:
            return self._come(some)

    def _come(self, some: Tensors) -> socket.socket:
        name = f"tritouch-{secrets.token_hex(16)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(f"\0{name}")
            listening.listen(1)
            listening.settimeout(COMING_SECONDS)
            self._open(some, {PARAMETER: name})
            connection, _ = listening.accept()
        connection.settimeout(None)
        return connection
