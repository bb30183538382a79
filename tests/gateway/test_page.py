"""The playground's page as the gateway serves it: where, to whom, and under which policy."""

import re
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from gateway import page
from gateway.settings import Settings
from tests.conftest import ROOT
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.serving import Gateway, Loop, serving

KEY = "sesame"


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"host": "LocalHost"}, True),
        ({"host": "127.8.9.1"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "::"}, False),
        ({"host": "pictures.example"}, False),
        ({"api_keys": KEY}, False),
        ({"api_keys": KEY, "playground": "true"}, True),
        ({"host": "0.0.0.0", "playground": "true"}, True),
        ({"playground": "false"}, False),
    ],
)
def test_where_it_is_on(settings: dict[str, str], wanted: bool) -> None:
    assert Settings(**settings).playground_served is wanted


def test_a_setting_that_is_none_is_one_line() -> None:
    with pytest.raises(ValidationError) as raised:
        Settings(playground="maybe")
    (wrong,) = raised.value.errors()
    assert wrong["msg"] == "Input should be 'auto', 'true' or 'false'"


def test_the_page_and_all_that_it_names(gateway: Gateway) -> None:
    """What the page or one of its files asks for is served, and nothing is served that none asks for."""
    index = httpx.get(gateway.url, timeout=60)
    assert (index.status_code, index.headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = set(re.findall(r'(?:src|href)="(playground/[^"]+)"', index.text))
    seen: set[str] = set()
    while fresh := named - seen:
        seen |= fresh
        for name in fresh:
            answer = httpx.get(f"{gateway.url}/{name}", timeout=60)
            assert answer.status_code == 200, name
            assert answer.headers["content-type"] == page.TYPES[Path(name).suffix]
            if name.endswith(".js"):
                named |= {f"playground/{one}" for one in re.findall(r'from "\./([^"]+)"', answer.text)}
                named |= set(re.findall(r'fetch\("(playground/[^"]+)"', answer.text))
    assert {name.partition("/")[2] for name in seen} == {file.name for file in page.FILES.iterdir()} - {page.INDEX}


@pytest.mark.parametrize("path", ["/", "/playground/app.js"])
def test_its_policy_lets_nothing_in_from_elsewhere(gateway: Gateway, path: str) -> None:
    headers = httpx.get(gateway.url + path, timeout=60).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["img-src"] == "'self' blob: data:"
    assert policy["frame-ancestors"] == "'none'"
    assert not {"script-src", "style-src", "connect-src"} & policy.keys()
    assert headers["x-content-type-options"] == "nosniff"


def test_a_file_that_is_known_is_not_sent_again(gateway: Gateway) -> None:
    first = httpx.get(gateway.url, timeout=60)
    again = httpx.get(gateway.url, headers={"If-None-Match": first.headers["etag"]}, timeout=60)
    assert (again.status_code, again.content) == (304, b"")
    assert httpx.get(gateway.url, headers={"If-None-Match": '"other"'}, timeout=60).content == first.content
    assert httpx.head(gateway.url, timeout=60).headers["content-length"] == str(len(first.content))


@pytest.mark.parametrize("path", ["/playground", "/playground/", "/playground/index.html", "/playground/../page.py"])
def test_there_is_nothing_else(gateway: Gateway, path: str) -> None:
    assert httpx.get(gateway.url + path, timeout=60).json()["error"]["code"] == "not_found"
    assert httpx.post(gateway.url + "/", timeout=60).status_code == 405
    assert all(
        "playground" not in one and one != "/"
        for one in httpx.get(gateway.url + "/openapi.json", timeout=60).json()["paths"]
    )


def test_off_it_is_not_there(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, playground="false") as off:
        assert httpx.get(off.url, timeout=60).json()["error"]["code"] == "not_found"
        assert httpx.get(off.url + "/playground/app.js", timeout=60).status_code == 404


def test_with_keys_the_page_is_open_and_the_api_is_not(loop: Loop, triton: FakeTriton) -> None:
    with serving(loop, triton, playground="true", api_keys=KEY) as keyed:
        assert httpx.get(keyed.url, timeout=60).status_code == 200
        assert httpx.get(keyed.url + "/v1/models", timeout=60).status_code == 401


def test_its_files_are_short_and_its_sample_is_the_demos() -> None:
    for file in page.FILES.glob("*.[jhc][ts]*"):
        assert file.suffix == ".jpg" or len(file.read_text("utf-8").splitlines()) <= 300, file.name
    assert (page.FILES / "sample.jpg").read_bytes() == (ROOT / "demo" / "samples" / "cat.jpg").read_bytes()
