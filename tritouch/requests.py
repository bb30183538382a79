"""What both clients say and understand: the requests, and what their answers mean. Sends nothing."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack
from urllib.parse import urlsplit

import httpx

from tritouch.answer import AnswerError, pictures_of
from tritouch.errors import ADDRESS, BusyError, TritouchError, UnreachableError, UsageError
from tritouch.exchange import Flow, Server, Tries, exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from tritouch.answer import Picture
    from tritouch.form import EditForm

DEFAULT_URL: Final = "http://localhost:8000"
TIMEOUT: Final = 600.0
RETRIES: Final = 6
PROBE_SECONDS: Final = 10.0
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


class Settings(TypedDict, total=False):
    """How a client asks.

    api_key: a bearer token (default: TRITOUCH_API_KEY). timeout: seconds that one edit may take, retries and waits
    included. retries: how often a request is sent again while the server is busy or cannot be reached, 3 times at most
    before it was ever reached; always under the same Idempotency-Key, so that it is one edit. on_wait: hears of each
    wait for a retry, its seconds and the reason. url_name: what errors call the address that was given.
    """

    api_key: str | None
    timeout: float
    retries: int
    on_wait: Callable[[float, TritouchError], None]
    url_name: str


@dataclass(frozen=True)
class Status:
    """Of a server. problem: why no edit would work now, or "". edits_in_flight: None where it does not tell."""

    problem: str
    edits_in_flight: int | None
    models: list[dict[str, Any]]


class Requests:
    """Where the server is (TRITOUCH_URL unless given), and how each thing is asked of it. Raises `UsageError`."""

    def __init__(self, url: str | None = None, **settings: Unpack[Settings]) -> None:
        self._server = Server(settings.get("url_name", "url") if url else ADDRESS)
        self.url = _base(url or os.environ.get(ADDRESS) or DEFAULT_URL, self._server.address)
        self._settings = settings
        given = settings.get("api_key")
        key = os.environ.get("TRITOUCH_API_KEY", "") if given is None else given
        if not (key.isascii() and key.isprintable()):
            name = "TRITOUCH_API_KEY" if given is None else "api_key"
            raise UsageError(f"{name}: a key is of printable ASCII characters alone")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def tries(self) -> Tries:
        """Those of one request that begins now."""
        settings = self._settings
        told = settings.get("on_wait", lambda _seconds, _problem: None)
        return Tries(settings.get("retries", RETRIES), settings.get("timeout", TIMEOUT), told, self._server)

    def transport(self) -> dict[str, Any]:
        """Of httpx. A server on this machine is asked directly, whatever proxy the environment names."""
        url = httpx.URL(self.url)
        local = url.host in _LOOPBACK
        # Reading certificates takes a third of the start, and nothing but HTTP is spoken to it.
        verify = not (local and url.scheme == "http")
        return {"trust_env": not local, "verify": verify, "limits": httpx.Limits(max_connections=None)}

    def edit_request(self, form: EditForm) -> httpx.Request:
        """The request that sends the form of an edit."""
        files = [(name, (name, content, "application/octet-stream")) for name, content in form.files]
        headers = self._headers | form.headers
        return httpx.Request("POST", f"{self.url}/v1/images/edits", data=form.fields, files=files, headers=headers)

    def _get(self, path: str) -> httpx.Request:
        return httpx.Request("GET", self.url + path, headers=self._headers)

    def ask_edits(self, form: EditForm) -> Flow[list[Picture]]:
        """The pictures of an edit."""
        response = yield from exchange(self.edit_request(form), self.tries())
        return pictures_of(self._json_of(response), form.seed, self._server.address)

    def ask_models(self) -> Flow[list[dict[str, Any]]]:
        """The base model and its adapters."""
        response = yield from exchange(self._get("/v1/models"), self.tries())
        return self._models_of(response)

    def ask_status(self) -> Flow[Status]:
        """Three questions, each asked once."""
        seconds = min(PROBE_SECONDS, self._settings.get("timeout", TIMEOUT))
        once = Tries(0, seconds, lambda _seconds, _problem: None, self._server)
        try:
            yield from exchange(self._get("/readyz"), once)
        except BusyError as problem:
            return Status(str(problem), None, [])
        models = self._models_of((yield from exchange(self._get("/v1/models"), once)))
        try:
            metrics = yield from exchange(self._get("/metrics"), once)
        except TritouchError:  # kept inside the network by many
            return Status("", None, models)
        return Status("", _edits_in_flight(metrics.text), models)

    def _json_of(self, response: httpx.Response) -> Any:
        """The JSON of an answer. Raises `AnswerError`."""
        try:
            return json.loads(response.content)
        except ValueError:
            raise AnswerError(f"the server's answer is not JSON: {self._is_it_one()}") from None

    def _models_of(self, response: httpx.Response) -> list[dict[str, Any]]:
        """The entries of a list of models. Raises `AnswerError`."""
        answer = self._json_of(response)
        listed = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(listed, list) or not all(isinstance(one, dict) and "id" in one for one in listed):
            raise AnswerError(f"the server's answer lists no models: {self._is_it_one()}")
        return listed

    def _is_it_one(self) -> str:
        return f"is {self._server.address} that of a Tritouch server?"


def streams(response: httpx.Response) -> bool:
    """Whether this is a stream of events that has begun."""
    kind = response.headers.get("content-type", "")
    return response.status_code == 200 and kind.partition(";")[0].strip().lower() == "text/event-stream"


def stream_of(response: httpx.Response) -> httpx.Response:
    """`response`, which is a stream. Raises `AnswerError`."""
    if not streams(response):
        raise AnswerError("the server does not stream: ask without it")
    return response


def ended() -> UnreachableError:
    """A stream whose end came too early."""
    return UnreachableError("the server ended the stream before the picture was done")


def _edits_in_flight(metrics: str) -> int | None:
    """From the gateway's metrics, or None where they do not tell."""
    found = re.search(r"^tritouch_gateway_edits_in_flight ([0-9]+)(?:\.0)?$", metrics, re.MULTILINE)
    return int(found[1]) if found else None


def _base(url: str, name: str) -> str:
    """An address as given, without what OpenAI's clients have at its end. Raises `UsageError`, of `name`."""
    try:
        parts, host = urlsplit(url), httpx.URL(url).host
        plain = parts.port != 0 and not parts.query + parts.fragment
        right = plain and bool(host) and parts.scheme in {"http", "https"}
    except (httpx.InvalidURL, ValueError):
        right = False
    if not right:
        raise UsageError(f"{name}: give the server's address, as http://localhost:8000")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
