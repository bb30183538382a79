"""Chooses the ports of the servers, and finds a busy one before anything is started."""

from __future__ import annotations

import errno
import random
import socket
from typing import TYPE_CHECKING

from embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterable

# Below the ports that Linux gives to outgoing connections, any of which could otherwise take a port
# between its choice and its use, or while a killed server is away.
_FREE = range(20000, 32000)
_ATTEMPTS = 200
MOST = 65535


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to ``host`` and ``port`` (0: a free one), not listening yet.

    Nobody else can have the port from then on. With SO_REUSEADDR one that does not listen would share it, and of two
    that start at once the second would find out minutes later. So it is asked for only where the port is not to be had
    otherwise, because of connections that a server of before has closed; and by `listen`, for the next server.

    Raises:
        EmbeddedError: the port is busy, or the address cannot be bound.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise EmbeddedError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    except UnicodeError:
        raise EmbeddedError(f"cannot listen on {host}:{port}: that is no host's name") from None
    try:
        try:
            bound.bind(address)
        except OSError:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise EmbeddedError(f"port {port} on {host} is in use: stop what uses it, or choose another") from None
        raise EmbeddedError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return bound


def listen(bound: socket.socket) -> None:
    """Take connections, which wait for whoever accepts them; once it is closed, the port can be bound at once."""
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.listen()


def choose(host: str, wanted: Iterable[tuple[str, int]]) -> list[int]:
    """Ports for servers that bind for themselves: each wanted one if it is free, a free one for each 0.

    Args:
        host: the address they will be bound to.
        wanted: what each is called in an error, and the port or 0.

    Raises:
        EmbeddedError: a wanted port is none, busy, or wanted twice; names it.
    """
    held: list[socket.socket] = []
    try:
        for name, port in wanted:
            if port > MOST:
                raise EmbeddedError(f"{name}: port {port} is more than {MOST}, the last there is: choose a lower one")
            try:
                held.append(bind(host, port) if port else _bind_free(host))
            except EmbeddedError as error:
                raise EmbeddedError(f"{name}: {error}") from None
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


def _bind_free(host: str) -> socket.socket:
    for port in random.sample(_FREE, _ATTEMPTS):
        try:
            return bind(host, port)
        except EmbeddedError:
            continue
    raise EmbeddedError(f"no free port on {host} between {_FREE.start} and {_FREE.stop}")
