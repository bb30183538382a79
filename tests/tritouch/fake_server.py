"""A small HTTP server on real sockets that answers edits as the API does, and misbehaves where a test says so."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

STEPS = 4
FORETOLD = 2
"""Steps of a picture whose steps were cached."""
MODELS = {
    "object": "list",
    "data": [
        {"id": name, "parent": parent, "num_inference_steps": steps, "guidance_scale": 7.5, "max_images": 4}
        for name, parent, steps in (
            ("base", None, 20),
            ("ink", "base", 20),
            ("sdxl", None, 28),
            ("sdxl/oil", "sdxl", 28),
        )
    ],
}
METRICS = "# HELP tritouch_gateway_edits_in_flight Edits\ntritouch_gateway_edits_in_flight 3.0\n"


@dataclass
class Asked:
    """A request as it came: text fields, files by name, headers in lower case."""

    path: str
    headers: dict[str, str]
    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def n(self) -> int:
        return int(self.fields.get("n", "1"))

    @property
    def seed(self) -> int:
        return int(self.fields["seed"])


Behaviour = Callable[["Handler", Asked], None]


def picture(asked: Asked, seed: int) -> dict[str, Any]:
    """One picture of the asked size and format, whose colour tells its seed."""
    size = asked.fields.get("size", "auto")
    width, height = (int(side) for side in size.split("x")) if size != "auto" else (16, 8)
    out = io.BytesIO()
    kind = asked.fields["output_format"]
    Image.new("RGB", (width, height), (seed % 256, 0, 0)).save(out, kind)
    content = base64.b64encode(out.getvalue()).decode()
    return {"b64_json": content, "output_format": kind, "size": f"{width}x{height}"}


def edited(handler: Handler, asked: Asked) -> None:
    """The answer of the API, or its events."""
    if asked.fields.get("stream") == "true":
        handler.events(stream_of(asked))
        return
    seeds = [(asked.seed + index) % 2**64 for index in range(asked.n)]
    first = picture(asked, asked.seed)
    data = [{"b64_json": picture(asked, seed)["b64_json"], "seed": seed, **foretold(asked)} for seed in seeds]
    usage = {"input_tokens": 3, "output_tokens": 4 * asked.n, "total_tokens": 3 + 4 * asked.n}
    handler.json(200, {"created": 1, "data": data, "usage": usage} | first | cached(asked) | {"b64_json": None})


def stream_of(asked: Asked) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of an edit, of n pictures one after the other."""
    for index in range(asked.n):
        seed = asked.seed + index
        for step in range(1, STEPS + 1):
            yield "image_edit.progress", {"step": step, "steps": STEPS, "index": index}
            if step <= int(asked.fields.get("partial_images", "0")):
                yield (
                    "image_edit.partial_image",
                    picture(asked, seed) | {"partial_image_index": step - 1, "index": index},
                )
        yield "image_edit.completed", picture(asked, seed) | cached(asked) | {"index": index, "seed": seed, "usage": {}}


def cached(asked: Asked) -> dict[str, Any]:
    """How steps were cached, of an edit that says how they should be."""
    return {"cache": asked.fields["cache"], **foretold(asked)} if "cache" in asked.fields else {}


def foretold(asked: Asked) -> dict[str, int]:
    """How many steps of one of its pictures were foretold."""
    return {"foretold_steps": FORETOLD} if "cache" in asked.fields else {}


def failing(status: int, code: str, message: str = "No.", **headers: str) -> Behaviour:
    """An error of the API."""

    def behave(handler: Handler, asked: Asked) -> None:
        error = {"message": message, "type": "x", "param": None, "code": code}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.json(status, {"error": error, "detail": message}, named)

    return behave


def plain(status: int, content: bytes, **headers: str) -> Behaviour:
    """What some other server says."""

    def behave(handler: Handler, asked: Asked) -> None:
        handler.answer(status, content, "text/html", {name.replace("_", "-"): value for name, value in headers.items()})

    return behave


def hang_up(handler: Handler, asked: Asked) -> None:
    """No answer: the connection is closed."""
    handler.close_connection = True


def broken_after(count: int, then: dict[str, Any] | None = None) -> Behaviour:
    """A stream that ends, or fails by an `error` event, after so many events."""

    def behave(handler: Handler, asked: Asked) -> None:
        some = [event for event, _ in zip(stream_of(asked), range(count), strict=False)]
        handler.events(iter([*some, *([("error", then)] if then else [])]), whole=then is not None)

    return behave


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: FakeServer

    def do_GET(self) -> None:
        self.server.asked.append(Asked(self.path, self._headers()))
        if self.server.script:
            self.server.script.pop(0)(self, self.server.asked[-1])
        elif self.path == "/v1/models":
            self.json(200, MODELS)
        elif self.path == "/metrics":
            self.answer(200, METRICS.encode(), "text/plain")
        else:
            self.json(200, {"status": "ok"})

    def do_POST(self) -> None:
        asked = Asked(self.path, self._headers())
        body = self.rfile.read(int(self.headers["Content-Length"]))
        form = message_from_bytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body)
        for part in form.get_payload():
            name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
            if part.get_filename() is None:
                asked.fields[name] = content.decode()
            else:
                asked.files.append((name, content))
        with self.server.lock:
            self.server.asked.append(asked)
            behave = self.server.script.pop(0) if self.server.script else self.server.always
        behave(self, asked)

    def json(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        self.answer(status, json.dumps(content).encode(), "application/json", headers)

    def answer(self, status: int, content: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def events(self, events: Iterator[tuple[str, dict[str, Any]]], *, whole: bool = True) -> None:
        """Server-sent events in chunks, a ping among them; not `whole`: the connection breaks after them."""
        self.send_response(200)
        for name, value in (("Content-Type", "text/event-stream; charset=utf-8"), ("Transfer-Encoding", "chunked")):
            self.send_header(name, value)
        self.end_headers()
        self._chunk(": ping\n\n")
        for kind, content in events:
            self._chunk(f"event: {kind}\ndata: {json.dumps({'type': kind} | content)}\n\n")
        if whole:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = not whole

    def _chunk(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def _headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class FakeServer(ThreadingHTTPServer):
    """`script`: what is done with the next requests, one each; then `always`. `asked`: all that came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.reset()

    def reset(self) -> None:
        self.script: list[Behaviour] = []
        self.always: Behaviour = edited
        self.asked: list[Asked] = []

    def handle_error(self, *_: object) -> None:
        """Clients that leave are part of the tests."""
