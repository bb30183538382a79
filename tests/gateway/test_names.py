"""By which names a gateway may be asked: loopback's alone where whoever reaches it may use it."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.names import name_of
from gateway.settings import Settings
from tests.gateway.asking import failure, get, post, until
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.sending import raw
from tests.gateway.serving import Gateway, Loop, serving
from tests.gateway.test_observe import shown

LOOPBACK = [
    "localhost",
    "LocalHost:8000",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.8.9.1:8000",
    "[::1]",
    "[::1]:8000",
    "localhost:",
]
OTHERS = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "192.168.1.2:8000",
    "[2600::1]:8000",
    "[::1",
    "::1",
    "localhost:8000:9",
    "localhost:x",
    "user@localhost",
    "",
]


@pytest.mark.parametrize("name", LOOPBACK)
def test_names_of_loopback_are_answered(gateway: Gateway, name: str) -> None:
    assert get(gateway, "/v1/models", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not_without_keys(gateway: Gateway, triton: FakeTriton, name: str) -> None:
    for path in ("/", "/v1/models", "/livez", "/nothing"):
        assert failure(get(gateway, path, headers={"Host": name})) == (421, "host_unknown")
    answer = post(gateway, headers={"Host": name})
    assert failure(answer) == (421, "host_unknown")
    assert "x-request-id" in answer.headers
    assert not triton.requests


def test_they_are_counted(gateway: Gateway) -> None:
    get(gateway, "/", headers={"Host": "evil.example"})
    sample = 'tritouch_gateway_requests_total{reason="host_unknown",route="none",status="421"}'
    assert until(lambda: shown(gateway, sample))


def test_who_names_nothing_is_no_browser(gateway: Gateway) -> None:
    assert raw(gateway, b"GET /livez HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("settings", "answered", "refused"),
    [
        (
            {"server_names": ("edits.example.org", "fe80::1")},
            ["Edits.Example.Org:8000", "[fe80::1]", *LOOPBACK],
            OTHERS,
        ),
        ({"server_names": ("*",)}, [*LOOPBACK, "evil.example"], []),
        ({"api_keys": ("one",)}, [*LOOPBACK, "evil.example"], []),
        ({"api_keys": ("one",), "server_names": ("edits.example.org",)}, ["edits.example.org"], OTHERS),
        ({"host": "0.0.0.0"}, [*LOOPBACK, "evil.example"], []),
        ({"host": "0.0.0.0", "server_names": ("a.example",)}, ["a.example", *LOOPBACK], OTHERS),
        ({"host": "localhost"}, LOOPBACK, OTHERS),
    ],
)
def test_a_setting_names_others(
    loop: Loop, triton: FakeTriton, settings: dict[str, Any], answered: list[str], refused: list[str]
) -> None:
    with serving(loop, triton, **settings) as gateway:
        assert {get(gateway, "/livez", headers={"Host": name}).status_code for name in answered} == {200}
        assert {get(gateway, "/livez", headers={"Host": name}).status_code for name in refused} <= {421}


def test_pages_of_other_origins_ask_by_a_name_of_loopback(loop: Loop, triton: FakeTriton) -> None:
    page = "https://app.example.com"
    with serving(loop, triton, cors_origins=(page,)) as gateway:
        answer = get(gateway, "/v1/models", headers={"Host": "evil.example", "Origin": page})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (421, page)
        assert get(gateway, "/v1/models", headers={"Origin": page}).status_code == 200


@pytest.mark.parametrize("names", ["http://a", "a:80", "*.a", "a/b"])
def test_a_name_that_is_none_is_one_line(names: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Settings(server_names=names)
    (wrong,) = raised.value.errors()
    assert wrong["msg"].endswith("give hosts as names or addresses alone, without scheme, port, path or wildcard")


def test_an_address_is_told_from_its_port() -> None:
    assert [name_of(host) for host in ("A:1", "[::1]:1", "[::1]", "1.2.3.4")] == ["a", "::1", "::1", "1.2.3.4"]
