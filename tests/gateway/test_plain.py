"""Other ways to write a request: `HEAD`, whole URLs as targets, and what browsers ask for other origins' pages."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from gateway.cors import Shared
from gateway.metrics import Metrics
from gateway.observe import Observed
from tests.gateway.asking import EDITS, body, failure, get, until
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.test_protocol import connected, rest

PAGE = "https://app.example.com"
GETS = ["/livez", "/readyz", "/metrics", "/v1/models", "/v1/models/base", "/openapi.json"]


def ask(gateway: Gateway, method: str, path: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as client:
        return client.request(method, path, headers=named)


def raw(gateway: Gateway, line: str) -> tuple[bytes, bytes]:
    """Head and content of the answer to this request line."""
    with connected(gateway, f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()) as connection:
        head, _, content = rest(connection).partition(b"\r\n\r\n")
    return head, content


@pytest.mark.parametrize("path", GETS)
def test_head_is_get_without_its_content(gateway: Gateway, triton: FakeTriton, path: str) -> None:
    head, content = raw(gateway, f"HEAD {path}")
    whole = get(gateway, path)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert content == b""
    assert f"content-type: {whole.headers['content-type']}".encode() in head
    assert (b"content-length: " in head) == ("content-length" in whole.headers)


@pytest.mark.parametrize("path", GETS)
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "TRACE", "UNHEARD-OF"])
def test_other_methods_are_told_of_both(gateway: Gateway, path: str, method: str) -> None:
    answer = ask(gateway, method, path)
    assert failure(answer) == (405, "method_not_allowed")
    assert {one.strip() for one in answer.headers["allow"].split(",")} == {"GET", "HEAD"}


def test_there_are_no_other_paths_to_get(gateway: Gateway) -> None:
    paths = {path for path, item in gateway.app.openapi()["paths"].items() if "get" in item}
    assert {path.format(name="base") for path in paths} == {*GETS[:5]}


def test_the_connection_goes_on_after_head(gateway: Gateway) -> None:
    heads = (
        "HEAD /livez HTTP/1.1\r\nHost: localhost",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close",
        "",
    )
    with connected(gateway, "\r\n\r\n".join(heads).encode()) as connection:
        answers = rest(connection)
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert answers.count(b'{"status":"ok"}') == 1


@pytest.mark.parametrize(("path", "status"), [(EDITS, b"405"), ("/nothing", b"404")])
def test_head_of_what_cannot_be_got(gateway: Gateway, path: str, status: bytes) -> None:
    head, content = raw(gateway, f"HEAD {path}")
    assert head.split()[1] == status
    assert content == b""


@pytest.mark.parametrize(
    "target", ["http://x/livez", "HTTPS://other.example.com:8/livez?a=b", "http://x/%6Civez", "http://x", "http://x/"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_target_may_be_a_whole_url(gateway: Gateway, method: str, target: str) -> None:
    assert raw(gateway, f"{method} {target}")[0].startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("target", ["http:///livez", "ftp://x/livez", "http:/livez", "*"])
def test_other_targets_lead_nowhere(gateway: Gateway, target: str) -> None:
    assert raw(gateway, f"GET {target}")[0].startswith(b"HTTP/1.1 404 ")


def test_an_edit_by_its_whole_url_is_known_as_that(gateway: Gateway, triton: FakeTriton) -> None:
    assert raw(gateway, f"POST http://x{EDITS}")[0].startswith(b"HTTP/1.1 415 ")
    assert until(lambda: f'route="{EDITS}",status="415"' in get(gateway, "/metrics").text)


@pytest.fixture(scope="module")
def shared(loop: Loop, _triton: FakeTriton) -> Iterator[Gateway]:
    with serving(loop, _triton, api_keys=("one",), cors_origins=(PAGE, "http://localhost:3000")) as gateway:
        yield gateway


def preflight(gateway: Gateway, path: str = EDITS, origin: str = PAGE, names: str = "authorization") -> httpx.Response:
    headers = {"access_control_request_method": "POST", "access_control_request_headers": names}
    return ask(gateway, "OPTIONS", path, origin=origin, **headers)


@pytest.mark.parametrize("path", [EDITS, "/v1/models", "/nothing"])
@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
def test_preflights_are_answered_without_a_token(shared: Gateway, path: str, origin: str) -> None:
    answer = preflight(shared, path, origin, "authorization,content-type, x-stainless-os")
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == origin
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type, x-stainless-os"
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["x-request-id"]
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", PAGE + ".evil.com", "http://app.example.com"])
def test_pages_that_are_not_listed_are_told_nothing(shared: Gateway, origin: str) -> None:
    answer = preflight(shared, origin=origin)
    assert failure(answer) == (405, "method_not_allowed")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("names", ["a b", "x" * 3000, "a;b", "<a>"])
def test_odd_header_names_are_not_repeated(shared: Gateway, names: str) -> None:
    answer = preflight(shared, names=names)
    assert answer.status_code == 204
    assert "access-control-allow-headers" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/livez", 200), ("GET", "/nothing", 404), ("GET", EDITS, 405), ("POST", EDITS, 401)],
)
def test_pages_may_read_errors_too(shared: Gateway, method: str, path: str, status: int) -> None:
    answer = ask(shared, method, path, origin=PAGE)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in ask(shared, method, path).headers


def test_pages_may_read_what_nobody_foresaw() -> None:
    app = FastAPI()

    @app.get("/")
    async def broken() -> None:
        raise RuntimeError

    app.add_middleware(Observed, metrics=Metrics())
    app.add_middleware(Shared, origins=[PAGE])
    with TestClient(app) as client:
        answer = client.get("/", headers={"origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, PAGE)


def test_any_origin_is_without_credentials(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, cors_origins=("*",)) as gateway:
        answers = [preflight(gateway), ask(gateway, "GET", "/livez", origin="https://any.example.com")]
        with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as client:
            answers.append(client.post(EDITS, json=body(), headers={"origin": "null"}))
    assert [one.status_code for one in answers] == [204, 200, 200]
    for one in answers:
        assert one.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in one.headers


def test_off_by_default(gateway: Gateway) -> None:
    assert failure(preflight(gateway)) == (405, "method_not_allowed")
    answer = ask(gateway, "GET", "/livez", origin=PAGE)
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]
