"""Requests to a gateway that are sent by hand, in whole or in part."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.gateway.asking import EDITS, body, until
from tests.gateway.serving import Gateway

HEAD = f"POST {EDITS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SECONDS = 60
"""How long anything is waited for on a connection."""


@contextmanager
def sent(url: str, path: str = EDITS, **request: Any) -> Iterator[socket.socket]:
    """The connection on which it was asked, as `post` does, and on which the answer will come."""
    asked = httpx.Request("POST", url + path, **({"json": body()} | request))
    head = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in asked.headers.items())]
    with socket.create_connection((asked.url.host, asked.url.port), SECONDS) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + asked.read())
        yield connection


def leave(url: str, arrived: Callable[[], bool], path: str = EDITS, **request: Any) -> None:
    """Ask as `post` does, and hang up without an answer as soon as what was asked has `arrived` where it is to be."""
    with sent(url, path, **request):
        assert until(arrived)


def raw(gateway: Gateway, sent: bytes) -> bytes:
    """What comes back for these bytes, until the connection closes or nothing comes any more."""
    with socket.create_connection(("127.0.0.1", gateway.port), SECONDS) as connection:
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
    with socket.create_connection(("127.0.0.1", gateway.port), SECONDS) as connection:
        lines = "".join(f"{one}\r\n" for one in headers)
        connection.sendall(f"{HEAD}{lines}Content-Length: {size}\r\n\r\n".encode() + content)
        yield connection
