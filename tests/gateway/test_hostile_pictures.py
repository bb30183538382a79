"""Pictures that try to break the gateway's own part: base64, sizes and first bytes. Decoding them is `preprocess`'s."""

import base64
import random
import resource
from collections.abc import Callable

import pytest

from gateway import errors
from gateway.errors import PublicError
from gateway.images import NOT_BASE64, checked, decode, decoded_size
from tests.gateway.asking import PNG, PNG64, body, failure, picture, post
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.serving import Gateway

KINDS = ("JPEG", "PNG", "WEBP")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", range(0, 100, 5))
def test_truncations_are_passed_on_or_refused(gateway: Gateway, triton: FakeTriton, kind: str, cut: int) -> None:
    whole = picture(kind, (64, 64))
    part = whole[: len(whole) * cut // 100]
    answer = post(gateway, json=body(image={"image": base64.b64encode(part).decode()}))
    if answer.status_code == 200:
        assert triton.requests[0].raw_input_contents[0][4:] == part
    else:
        assert failure(answer) == (422, "image_unreadable")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        b"\x89PNG",
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"GIF89a" + bytes(100),
        b"BM" + bytes(100),
        b"II*\0" + bytes(100),
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"%!PS-Adobe",
        b"%PDF-1.7",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0\0\0\x1cftypavif",
        b"PK\x03\x04" + picture("PNG"),
        b" " + picture("PNG"),
        b"P6\n1 1\n255\n\0\0\0",
        b"#define x_width 1",
        b"qoif",
    ],
)
def test_other_formats_are_refused_by_their_content(gateway: Gateway, triton: FakeTriton, content: bytes) -> None:
    text = base64.b64encode(content).decode()
    for given in (text, "data:image/png;base64," + text):
        assert failure(post(gateway, json=body(image={"image": given}))) == (422, "image_unreadable")
    form = {"files": {"image": ("cat.png", content, "image/png")}, "data": {"prompt": "x"}}
    assert failure(post(gateway, **form)) == (422, "image_unreadable")
    assert not triton.requests


@pytest.mark.parametrize("length", range(70))
def test_the_size_is_known_from_the_text(length: int) -> None:
    text = base64.b64encode(bytes(length)).decode()
    assert decoded_size(text, 0) == length
    assert decoded_size("data:;base64," + text, 13) == length


@pytest.mark.parametrize("padding", ["=", "==", "===", "A="])
def test_slices_do_not_hide_broken_base64(padding: str) -> None:
    start = base64.b64encode(picture("PNG")[:57]).decode()
    long = start + "A" * ((1 << 18) - len(start) - len(padding))
    with pytest.raises(PublicError, match="image_unreadable"):
        decode(long + padding + "AAAA", 10_000_000)


def _wrapped(text: str) -> str:
    return "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)) + "\n"


LOOSELY: dict[str, Callable[[str], str]] = {
    "line breaks": _wrapped,
    "spaces and tabs": lambda text: " \t " + " ".join(text),
    "no padding": lambda text: text.rstrip("="),
    "the URL-safe alphabet": lambda text: text.replace("+", "-").replace("/", "_"),
    "all of it": lambda text: _wrapped(text.replace("+", "-").replace("/", "_").rstrip("=")),
    "padding on a line of its own": lambda text: text.rstrip("=") + "".join("\n=" for one in text if one == "="),
}


@pytest.mark.parametrize("how", LOOSELY)
@pytest.mark.parametrize("size", [57, 58, 59, 200_000, 200_001, 393_216])
def test_base64_as_people_write_it(how: str, size: int) -> None:
    content = (PNG + random.Random(size).randbytes(size))[:size]
    text = LOOSELY[how](base64.b64encode(content).decode())
    for given in (text, "data:image/png;base64," + text, "\n data:image/png;base64,\n" + text):
        assert decode(given, size) == content
        with pytest.raises(PublicError, match="image_too_large"):
            decode(given, size - 1)


@pytest.mark.parametrize(
    ("text", "is_base64"),
    [
        ("@/path/to/cat.png", False),
        ("not base64!", False),
        ("data:image/png,raw", False),
        ("\u00e9" + PNG64, False),
        (PNG64 + "A" * (-len(PNG64) % 4 + 1), False),
        (PNG64.rstrip("=") + "===", False),
        ("AA==" + PNG64, False),
        ("=" * 8, False),
        (PNG64.replace("A", "\x0b", 1), False),
        (base64.b64encode(b"GIF89a").decode(), True),
        ("", True),
    ],
)
def test_what_is_not_base64_is_told_as_that(gateway: Gateway, triton: FakeTriton, text: str, is_base64: bool) -> None:
    answer = post(gateway, json=body(image={"image": text}))
    assert failure(answer) == (422, "image_unreadable")
    assert answer.json()["error"]["param"] == "image"
    assert answer.json()["detail"] == (errors.KINDS["image_unreadable"].message if is_base64 else NOT_BASE64)


def test_a_slice_more_or_less_changes_nothing() -> None:
    for size in (3 << 16, (3 << 16) + 1, (3 << 17) - 1):
        content = picture("PNG").ljust(size, b"\x5a")
        assert decode(base64.b64encode(content).decode(), size) == content


def test_checked_says_nothing_of_what_it_saw() -> None:
    with pytest.raises(PublicError) as caught:
        checked(b"secret", 100)
    assert "secret" not in str(caught.value) + caught.value.message


def test_nothing_grows(gateway: Gateway, triton: FakeTriton) -> None:
    """What is too large is refused by its length, before it is decoded."""
    text = "A" * 80_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PublicError, match="image_too_large"):
        decode(text, 52_428_800)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
