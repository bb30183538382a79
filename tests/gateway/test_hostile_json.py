"""JSON bodies that try to break the gateway: always 4xx in the one shape, never an echo, never a request to Triton."""

import json
import resource
from typing import Any

import httpx
import pytest

from gateway import json_call
from gateway.errors import PublicError
from tests.gateway.asking import PNG64, body, failure, post
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.serving import Gateway

GOOD = json.dumps(body())
MARK = "sesame"  # what must never come back


def with_field(name: str, value: str) -> str:
    """The good body with this field's value written as given."""
    return GOOD[:-1] + f', "{name}": {value}}}'


NUMBERS = """
NaN Infinity -Infinity 1e999 -1e999 1e400000000 0x10 010 +1 .5 5. 1. -0.0.1 1e 1e+ --1 1_000 2.0000000001 -1 0 51 1e2
9007199254740993.5 99999999999999999999 true false "7" "" [] [7] {} {"a":1} null
"""

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n\t ",
    "a number": b"7",
    "a string": b'"sesame"',
    "null": b"null",
    "an array": b"[]",
    "an array of bodies": f"[{GOOD}]".encode(),
    "two bodies": (GOOD + GOOD).encode(),
    "a tail": (GOOD + "x").encode(),
    "a comment": (GOOD[:-1] + "/* sesame */}").encode(),
    "a trailing comma": (GOOD[:-1] + ",}").encode(),
    "single quotes": b"{'image': 'x'}",
    "a bare key": b"{image: 1}",
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-32": GOOD.encode("utf-32"),
    "a byte order mark": GOOD.encode("utf-8-sig"),
    "Latin-1": json.dumps(body(prompt="sesame \xe9"), ensure_ascii=False).encode("latin-1"),
    "overlong UTF-8": b'{"prompt": "\xc0\xaf"}',
    "an encoded surrogate": b'{"prompt": "\xed\xa0\x80"}',
    "a lone surrogate": rb'{"prompt": "\ud800"}',
    "a reversed pair": rb'{"prompt": "\udc00\ud800"}',
    "a half pair in a key": rb'{"\ud800": 1}',
    "a bad escape": rb'{"prompt": "\x41"}',
    "a raw control character": b'{"prompt": "a\x01b"}',
    "a raw NUL": b'{"prompt": "a\x00b"}',
    "an escaped NUL": json.dumps(body(prompt="a\0b")).encode(),
    "gzip's first bytes": b"\x1f\x8b\x08\x00sesame",
    "duplicate keys": with_field("prompt", '"sesame"').encode(),
    "duplicate keys below": GOOD.replace('{"image": "', '{"image": "x", "image": "', 1).encode(),
    "deep arrays": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b"[" * 50_000 + b"]" * 50_000,
    "a deep field": with_field("x", "[" * 5000 + "]" * 5000).encode(),
    "a huge integer": with_field("seed", "9" * 100_000).encode(),
    "a huge exponent": with_field("guidance_scale", "1e" + "9" * 10_000).encode(),
    "a huge prompt": json.dumps({**body(), "prompt": MARK * 100_000}).encode(),
    "a huge model": json.dumps(body(model=MARK * 100_000)).encode(),
    "many images": json.dumps(body(image=[{"image": PNG64}] * 10_000)).encode(),
    "image in image": json.dumps(body(image={"image": {"image": PNG64}})).encode(),
    "image null": json.dumps(body(image=None)).encode(),
    "image in array null": json.dumps(body(image=[None])).encode(),
    "image in array in array": json.dumps(body(image=[[{"image": PNG64}]])).encode(),
    "image a number": json.dumps(body(image={"image": 7})).encode(),
    "image with a NUL": json.dumps(body(image={"image": PNG64[:8] + "\0" + PNG64[9:]})).encode(),
    "image with a raw line break": json.dumps(body()).replace(PNG64, PNG64[:8] + "\n" + PNG64[8:]).encode(),
    "image base64url of no picture": json.dumps(body(image={"image": "_-_-"})).encode(),
    "image badly padded": json.dumps(body(image={"image": PNG64.rstrip("=") + "==="})).encode(),
    "image padded within": json.dumps(body(image={"image": "AA==" + PNG64})).encode(),
    "image of padding": json.dumps(body(image={"image": "=" * 100})).encode(),
    "data URL without data": json.dumps(body(image={"image": "data:image/png;base64,"})).encode(),
    "data URL in data URL": json.dumps(body(image={"image": "data:;base64,data:;base64," + PNG64})).encode(),
    "data URL of many parameters": json.dumps(body(image={"image": "data:" + ";a" * 10_000 + ";base64,"})).encode(),
    "data URL, percent-encoded": json.dumps(body(image={"image": "data:image/png,%89PNG"})).encode(),
    "a path": json.dumps(body(image={"image": "/etc/passwd"})).encode(),
    "a path as adapter": json.dumps(body(model="..%2f..%2fsesame")).encode(),
    "an absolute path as adapter": json.dumps(body(model="/sesame")).encode(),
    "a blank prompt": json.dumps(body(prompt="\u2003\u00a0")).encode(),
} | {f"cut at {cut} %": GOOD.encode()[: len(GOOD) * cut // 100] for cut in range(5, 100, 5)}


def test_many_small_values_take_no_memory(gateway: Gateway) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for value in (b"{},", b"[],", b"0,", b'"",', b"[["):
        answer = _send(gateway, b'{"x": [' + value * (20_000_000 // len(value)))
        assert failure(answer) == (400, "body_unreadable")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (PNG64 + "\u00e9", "image_unreadable"),
        ("\U0001f431" + PNG64, "image_unreadable"),
        ("data:image/png;base64,\ub208", "image_unreadable"),
        ("https://example.com/\ub208.png", "image_url_unusable"),
    ],
)
def test_wide_text_is_not_kept(image: str, code: str) -> None:
    """One character beyond Latin-1 makes Python keep the whole text at two or four bytes a character."""
    content = json.dumps(body(image=[{"image": PNG64}, {"image": image}])).encode()
    with pytest.raises(PublicError, match=code):
        json_call.parse(content, "application/json")


def test_a_prompt_of_commas_is_fine(gateway: Gateway, triton: FakeTriton) -> None:
    assert _send(gateway, json.dumps(body(prompt="a" + "," * 9_999)).encode()).status_code == 200


def _send(gateway: Gateway, content: bytes, content_type: str = "application/json") -> Any:
    return post(gateway, content=content, headers={"content-type": content_type})


@pytest.mark.parametrize("what", BODIES)
def test_bodies(gateway: Gateway, triton: FakeTriton, what: str) -> None:
    answer = _send(gateway, BODIES[what])
    assert failure(answer)[0] in (400, 422)
    assert MARK not in answer.text
    assert len(answer.text) < 1000
    assert not triton.requests


@pytest.mark.parametrize("number", NUMBERS.split())
@pytest.mark.parametrize("name", ["num_inference_steps", "seed", "guidance_scale", "image_guidance_scale"])
def test_numbers(gateway: Gateway, triton: FakeTriton, name: str, number: str) -> None:
    """Each number either is one that the field takes, or is refused; it is never changed into another."""
    answer = _send(gateway, with_field(name, number).encode())
    if answer.status_code == 200:
        taken = {"seed": ("0", "51", "1e2")}
        allowed = taken.get(name, ("0", "51", "1e2", "2.0000000001") if "guidance" in name else ())
        assert number in (*allowed, "null", '""')
    else:
        assert failure(answer)[0] in (400, 422)
        assert not triton.requests


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/*", "json", "*/*", ";"],
)
def test_content_types(gateway: Gateway, content_type: str) -> None:
    assert failure(_send(gateway, GOOD.encode(), content_type)) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"]
)
def test_content_types_that_are_json(gateway: Gateway, triton: FakeTriton, content_type: str) -> None:
    assert _send(gateway, GOOD.encode(), content_type).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "NONSENSE"])
@pytest.mark.parametrize(
    "path", ["/v1/images/edits", "/livez", "/", "/v1/images/edits/", "/v1/../x", "/%00", "/" + "a" * 9000]
)
def test_methods_and_paths(gateway: Gateway, method: str, path: str) -> None:
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False, verify=False) as client:
        answer = client.request(method, path)
    if method in ("GET", "HEAD") and path in ("/livez", "/"):
        assert answer.status_code == 200
    elif method == "HEAD":
        assert answer.status_code in (404, 405)
        assert not answer.content
    else:
        assert failure(answer)[0] in (404, 405)
