"""Requests to a gateway that are sent by hand, in whole or in part."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.gateway.asking import EDITS
from tests.gateway.serving import Gateway

HEAD = f"POST {EDITS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def raw(gateway: Gateway, sent: bytes, timeout: float = 5) -> bytes:
    """What comes back for these bytes, until the connection closes or nothing comes any more."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout) as connection:
        connection.sendall(sent)
        return received(connection)


def received(connection: socket.socket) -> bytes:
    """What comes until the connection closes, or an object of JSON ends."""
    found = b""
    while b"}" not in found and (part := connection.recv(65536)):
        found += part
    return found


def code_of(answer: bytes) -> tuple[int, str]:
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)["error"]["code"]


@contextmanager
def sending(gateway: Gateway, size: int, content: bytes = b"", *headers: str) -> Iterator[socket.socket]:
    """A connection that has announced a body of `size` bytes, and sent the beginning of it."""
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as connection:
        lines = "".join(f"{one}\r\n" for one in headers)
        connection.sendall(f"{HEAD}{lines}Content-Length: {size}\r\n\r\n".encode() + content)
        yield connection
