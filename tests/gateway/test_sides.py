"""Answers whose sides are longer than a file's may be: refused by name, and where it is known before they are made."""

import io
import struct

import pytest
from PIL import Image

from families.picture import JPEG_MAX_SIDE, own_size
from families.sizes import within
from gateway import encode, sides
from gateway.errors import PublicError
from gateway.pictures import Picture
from tests.gateway.asking import EDITS, GENERATIONS, PNG, body, failure, picture, post, until
from tests.gateway.fake_triton import TOKENS, FakeTriton, answering, begun, outputs, response, telling, used
from tests.gateway.serving import Gateway
from tests.gateway.streaming import NOTHING, events_of, held, opened

WIDE = (16_384, 60)
WEBP = {"prompt": "x", "output_format": "webp"}
REFUSED = "The model does not make pictures of this size. A webp has at most 16383 pixels a side."


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (EDITS, {"files": {"image": PNG}, "data": WEBP | {"size": "16384x8"}}),
        (EDITS, {"json": {"images": [{"image_url": body()["image"]["image"]}]} | WEBP | {"size": "8x16384"}}),
        (GENERATIONS, {"json": WEBP | {"size": "16384x8"}}),
        (EDITS, {"files": {"image": picture(size=WIDE)}, "data": WEBP}),
        (EDITS, {"files": {"image": picture(size=WIDE)}, "data": WEBP | {"stream": "true"}}),
        (EDITS, {"files": {"image": picture("JPEG", (60, 40_000))}, "data": WEBP}),
    ],
)
def test_what_a_webp_cannot_hold_is_refused_before_it_is_made(
    gateway: Gateway, triton: FakeTriton, path: str, fields: dict[str, object]
) -> None:
    triton.offer |= {"max_pixels": "2000000"}
    answer = post(gateway, path, **fields)
    assert failure(answer) == (422, "size_unavailable")
    assert answer.json()["error"]["param"] == "output_format"
    assert answer.json()["detail"] == REFUSED
    assert not triton.requests


def test_nor_a_jpeg(gateway: Gateway, triton: FakeTriton) -> None:
    answer = post(gateway, files={"image": PNG}, data={"prompt": "x", "output_format": "jpeg", "size": "65501x2"})
    assert failure(answer) == (422, "size_unavailable")
    assert answer.json()["detail"].endswith(f" A jpeg has at most {JPEG_MAX_SIDE} pixels a side.")
    assert not triton.requests


def test_a_picture_that_is_scaled_down_to_what_fits_is_edited(gateway: Gateway, triton: FakeTriton) -> None:
    for offer in ({"max_pixels": "262144"}, {"max_pixels": "nonsense"}):  # 8459 x 31; and who does not tell is asked
        triton.offer |= offer
        assert post(gateway, files={"image": picture(size=WIDE)}, data=WEBP).status_code == 200
    assert len(triton.requests) == 2


def test_a_png_is_as_long_as_it_is(gateway: Gateway, triton: FakeTriton) -> None:
    triton.behave = answering(response(bytes(3 * 16_384 * 60), *WIDE))
    assert post(gateway, files={"image": picture(size=WIDE)}, data={"prompt": "x"}).status_code == 200


def test_what_nobody_knew_before_is_no_failure_of_the_server(gateway: Gateway, triton: FakeTriton) -> None:
    triton.behave = answering(response(bytes(3 * 16_384 * 60), *WIDE))
    answer = post(gateway, files={"image": PNG}, data=WEBP)
    assert failure(answer) == (422, "size_unavailable")
    numbers = {"size": [*WIDE], "step": [12, 12], "index": [0], "tokens": [*TOKENS], "foretold": [3]}
    long = outputs([bytes(3 * 16_384 * 60)], {name: ("INT32", told) for name, told in numbers.items()} | used())
    triton.tell = telling(begun(), long)
    with opened(gateway, files={"image": PNG}, data=WEBP | {"stream": "true"}) as stream:
        ((name, told),) = events_of(stream)
    assert (name, told["error"]["code"], told["error"]["param"]) == ("error", "size_unavailable", "output_format")
    assert until(lambda: held(gateway) == NOTHING)


@pytest.mark.parametrize("kind", sides.MOST)
def test_the_bounds_are_those_of_the_encoders(kind: str) -> None:
    most = sides.MOST[kind]
    for size in ((most, 1), (1, most)):
        made = encode.file(Picture(bytes(3 * most), *size, {}), kind, 50)  # type: ignore[arg-type]
        assert Image.open(io.BytesIO(made)).size == size
    with pytest.raises(PublicError):
        encode.file(Picture(bytes(3 * (most + 1)), most + 1, 1, {}), kind, 50)  # type: ignore[arg-type]
    with pytest.raises((OSError, ValueError)):
        Image.new("RGB", (most + 1, 1)).save(io.BytesIO(), kind)


def extended(width: int, height: int) -> bytes:
    """The beginning of a WebP that has a canvas."""
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    return b"RIFF\xff\0\0\0WEBPVP8X" + struct.pack("<II", 10, 0) + sides


def lossless(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "WEBP", lossless=True)
    return file.getvalue()


def commented(content: bytes) -> bytes:
    """A JPEG with a thumbnail's head in a segment of its own, and bytes of no meaning between its segments."""
    inner = picture("JPEG", (7, 7))
    return content[:2] + b"\xff\xfe" + struct.pack(">H", len(inner) + 2) + inner + b"ab\xff" + content[2:]


@pytest.mark.parametrize(
    "content",
    [
        picture(size=(300, 7)),
        picture("JPEG", (7, 300)),
        commented(picture("JPEG", (7, 300))),
        picture("WEBP", (300, 7)),
        lossless((300, 7)),
        extended(65_000, 300),
    ],
)
def test_a_head_tells_what_the_model_repository_reads_in_it(content: bytes) -> None:
    assert sides.size_of(content) == own_size(content)


@pytest.mark.parametrize("whole", [PNG, picture("JPEG"), picture("WEBP"), extended(9, 9)])
def test_what_is_cut_tells_its_size_or_none(whole: bytes) -> None:
    size = sides.size_of(whole)
    assert {sides.size_of(whole[:end]) for end in range(4, len(whole))} <= {size, (0, 0)}


def test_a_jpeg_of_segments_alone_ends() -> None:
    assert sides.size_of(b"\xff\xd8" + b"\xff\xfe\0\2" * 200_000) == (0, 0)


def test_a_jpeg_of_fill_bytes_alone_ends() -> None:
    assert sides.size_of(b"\xff" * 10_000_000) == (0, 0)


@pytest.mark.parametrize("fill", [1, 2, 9999])
def test_a_jpeg_may_have_fill_bytes(fill: int) -> None:
    content = picture("JPEG", (7, 300))
    assert sides.size_of(content[:2] + b"\xff" * fill + content[2:]) == (7, 300)


@pytest.mark.parametrize("own", [(65_535, 100), (100, 65_535), (8, 8), (1023, 1025), (700, 701), (3001, 2000)])
@pytest.mark.parametrize("most", [512 * 512, 1024 * 1024, 512 * 1024, 4096])
def test_the_rule_is_that_of_the_model_repository(own: tuple[int, int], most: int) -> None:
    assert sides.within(own, most) == within(own, most)
