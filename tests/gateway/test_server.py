"""The gateway before the real Triton: pictures that try to break the decoder, and a Triton that is killed."""

import base64
import io
import os
import signal
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from embedded.server import Embedded, serve
from tests.gateway.asking import EDITS, until

pytestmark = pytest.mark.server

KILLS = int(os.environ.get("TRITON_KILLS", "2"))
SIZE = (64, 48)


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Embedded]:
    with serve(repository, port=0, env={"TRITOUCH_ORPHAN_GRACE_SECONDS": "0.1"}) as running:
        yield running


def ask(server: Embedded, content: bytes, **fields: Any) -> httpx.Response:
    image = {"image": base64.b64encode(content).decode()}
    asked = {"image": image, "prompt": "red", "num_inference_steps": 1, "seed": 1, "response_format": "raw"} | fields
    return httpx.post(server.http_url + EDITS, json=asked, timeout=120, trust_env=False, verify=False)


def pattern() -> Any:
    """A picture that differs everywhere, (H, W, 3) uint8."""
    return np.random.default_rng(3).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    size = struct.pack(">I", len(content) if length is None else length)
    return size + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int, *rest: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + b"".join(rest)


IMAGE = Image.fromarray(pattern())
WHOLE = {kind: saved(IMAGE, kind) for kind in ("JPEG", "PNG", "WEBP")}
END = chunk(b"IEND", b"")
BAD: dict[str, bytes] = {
    "huge dimensions": png_header(60_000, 60_000, chunk(b"IDAT", zlib.compress(b"")), END),
    "just over 50 megapixels": png_header(8192, 6145, chunk(b"IDAT", zlib.compress(b"")), END),
    "the largest dimensions": png_header(2**31 - 1, 2**31 - 1, END),
    "no width": png_header(0, 10, chunk(b"IDAT", zlib.compress(b"")), END),
    "no pixels": png_header(10, 10, END),
    "a bomb of one colour": saved(Image.new("L", (12_000, 12_000)), "PNG"),
    "a wrong chunk length": png_header(10, 10, chunk(b"IDAT", b"x" * 10, 2**31 - 1), END),
    "a wrong checksum": WHOLE["PNG"][:-20] + b"\0\0\0\0" + WHOLE["PNG"][-16:],
    "broken deflate": png_header(10, 10, chunk(b"IDAT", b"\x78\x9c" + b"\xff" * 50), END),
    "a compressed text bomb": png_header(10, 10, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000))), END),
    "a JPEG of its first bytes": b"\xff\xd8\xff\xe0",
    "a JPEG of markers": b"\xff\xd8" + b"\xff\xff" * 5000,
    "a JPEG of huge dimensions": WHOLE["JPEG"].replace(struct.pack(">HH", SIZE[1], SIZE[0]), b"\xff\xff\xff\xff", 1),
    "a WebP of another length": b"RIFF" + struct.pack("<I", 2**32 - 1) + WHOLE["WEBP"][8:],
    "a WebP of nothing": b"RIFF\x04\0\0\0WEBP",
    "a GIF behind a PNG's first bytes": b"\x89PNG\r\n\x1a\n" + b"GIF89a" + bytes(100),
}


@pytest.mark.parametrize("what", BAD)
def test_pictures_that_are_none(server: Embedded, what: str) -> None:
    answer = ask(server, BAD[what])
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["code"] in ("image_unreadable", "image_too_large")


@pytest.mark.parametrize("kind", WHOLE)
def test_truncations(server: Embedded, kind: str) -> None:
    for cut in range(5, 100, 5):
        answer = ask(server, WHOLE[kind][: len(WHOLE[kind]) * cut // 100])
        assert answer.status_code in (200, 422), (cut, answer.text)


def test_hostile_pictures_leave_the_memory_alone(server: Embedded) -> None:
    def resident() -> int:
        processes = [psutil.Process(server.triton_pid), *psutil.Process(server.triton_pid).children(recursive=True)]
        return sum(process.memory_info().rss for process in processes)

    ask(server, WHOLE["PNG"])
    before = resident()
    for content in BAD.values():
        ask(server, content)
    assert resident() - before < 400 * 2**20


def _right() -> dict[str, tuple[bytes, Any]]:
    """Files, and the 8-bit RGB picture that each of them is."""
    plain = pattern()
    grey = np.asarray(IMAGE.convert("L"))
    deep = grey.astype(np.uint16) * 257
    half = np.dstack([plain, np.full(grey.shape, 128, np.uint8)])
    over_white = np.round((plain * 128.0 + 255 * 127.0) / 255).astype(np.uint8)
    palette = IMAGE.quantize(16)
    upright = Image.fromarray(np.rot90(plain, -1).copy())
    turned = Image.Exif()
    turned[0x0112] = 8
    frames = [Image.new("RGB", SIZE, "blue")]
    return {
        "grey": (saved(Image.fromarray(grey), "PNG"), np.dstack([grey] * 3)),
        "16-bit": (saved(Image.fromarray(deep), "PNG"), np.dstack([grey] * 3)),
        "alpha": (saved(Image.fromarray(half), "PNG"), over_white),
        "palette": (saved(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "transparent palette": (
            saved(palette, "PNG", transparency=0),
            np.where(np.asarray(palette)[..., None] == 0, 255, np.asarray(palette.convert("RGB"))),
        ),
        "turned": (saved(upright, "PNG", exif=turned), plain),
        "CMYK": (saved(IMAGE.resize((8, 8)).resize(SIZE).convert("CMYK"), "JPEG", quality=95), None),
        "animated": (saved(IMAGE, "PNG", save_all=True, append_images=frames), plain),
        "a polyglot": (WHOLE["PNG"] + b"PK\x03\x04<script>", plain),
    }


@pytest.mark.parametrize("what", _right())
def test_odd_pictures_are_what_they_look_like(server: Embedded, what: str) -> None:
    """Each is edited as the plain file of the same look is, nearly: the model of these tests is no identity."""
    content, look = _right()[what]
    given = ask(server, content)
    assert given.status_code == 200, given.text
    if look is not None:
        plain = ask(server, saved(Image.fromarray(look.astype(np.uint8)), "PNG"))
        ours, theirs = (np.frombuffer(base64.b64decode(one.json()["image"]), np.uint8) for one in (given, plain))
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 3


def test_triton_killed_in_the_middle_of_edits(server: Embedded) -> None:
    large = saved(IMAGE.resize((256, 256)), "PNG")
    for _ in range(KILLS):
        with ThreadPoolExecutor(3) as pool:
            edits = [pool.submit(ask, server, large, num_inference_steps=50, seed=seed) for seed in range(3)]
            assert until(lambda: _in_flight(server) == 3)
            os.kill(server.triton_pid, signal.SIGKILL)
            assert [edit.result().status_code for edit in edits] == [503] * 3
        server.restart_triton()
        assert until(lambda: ask(server, WHOLE["PNG"]).status_code == 200)


def _in_flight(server: Embedded) -> float:
    text = httpx.get(server.http_url + "/metrics", timeout=60, trust_env=False, verify=False).text
    lines = text.splitlines()
    return float(next(line for line in lines if line.startswith("tritouch_gateway_edits_in_flight ")).split()[1])
