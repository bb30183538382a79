"""What is read of the text of a URL."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import urls
from tests.gateway.asking import CASES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://Example.COM", urls.Url("http", "example.com", 80, "/")),
        ("https://example.com/a%20b?c=d&e#f", urls.Url("https", "example.com", 443, "/a%20b?c=d&e")),
        ("HTTP://1.1.1.1:8080?x", urls.Url("http", "1.1.1.1", 8080, "/?x")),
        ("http://[2606:4700:0::1]:80/", urls.Url("http", "2606:4700::1", 80, "/")),
        ("https://xn--nxasmq6b.example/", urls.Url("https", "xn--nxasmq6b.example", 443, "/")),
    ],
)
def test_what_is_read(text: str, expected: urls.Url) -> None:
    assert urls.parse(text) == expected


def test_each_character_is_looked_at_once() -> None:
    for rest in ("?" * 1_000_000, "/" * 1_000_000, "?#" * 500_000):
        assert vars(urls)["_FORM"].fullmatch(f"http://a.example/{rest} ") is None


@given(st.text(max_size=60) | st.from_regex(r"https?://[!-~]{0,40}", fullmatch=True))
@settings(max_examples=5 * CASES, deadline=None, database=None)
def test_any_text_is_a_plain_url_or_none(text: str) -> None:
    try:
        url = urls.parse(text)
    except urls.BadUrlError:
        return
    assert url.host == url.host.lower()
    assert not set("@/\\?#% ") & set(url.host)
    assert 0 <= url.port < 100_000
    assert url.target.startswith("/")
    assert urls.parse(f"{url.scheme}://{url.authority}{url.target}") == url
