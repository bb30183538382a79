"""The client in Python, of both kinds, against a server of real sockets."""

import io
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import httpx
import pytest
from PIL import Image

import tritouch
from tests.gateway.asking import until
from tests.tritouch.conftest import jpeg
from tests.tritouch.fake_server import (
    FORETOLD,
    MODELS,
    failing,
    hang_up,
    plain,
)
from tritouch import Client, exchange
from tritouch.errors import problem_of
from tritouch.requests import RETRIES

SNOW = "make it snow"


def test_an_edit_comes_back(asks, server):
    picture = asks("edit", jpeg(), SNOW, seed=7, format="webp", size="24x10")
    assert (picture.width, picture.height, picture.seed, picture.format) == (24, 10, 7, "webp")
    assert (picture.image.format, picture.image.size) == ("WEBP", (24, 10))


def test_what_is_said_is_sent_and_nothing_else(asks, server):
    asks("edit", jpeg(), SNOW, settings={"api_key": "k"})
    (plain_edit,) = server.asked
    assert plain_edit.fields.keys() == {"prompt", "seed", "output_format"}
    assert plain_edit.files == [("image", jpeg())]
    assert plain_edit.headers["authorization"] == "Bearer k"
    assert "x-priority" not in plain_edit.headers
    options = {
        "model": "ink", "steps": 5, "guidance": 2.5, "image_guidance": 1.25, "negative_prompt": "rain",
        "seed": 2**64 - 1, "size": "16x8", "mask": b"mask", "format": "jpeg", "quality": 80,
        "low_priority": True, "key": "mine", "cache": "balanced",
    }  # fmt: skip
    asks("edits", [jpeg(), b"two"], SNOW, 3, **options)
    whole = server.asked[1]
    assert whole.fields == {
        "prompt": SNOW, "model": "ink", "num_inference_steps": "5", "guidance_scale": "2.5",
        "image_guidance_scale": "1.25", "negative_prompt": "rain", "seed": str(2**64 - 1), "size": "16x8",
        "output_format": "jpeg", "output_compression": "80", "n": "3", "cache": "balanced",
    }  # fmt: skip
    assert whole.files == [("image[]", jpeg()), ("image[]", b"two"), ("mask", b"mask")]
    assert (whole.headers["x-priority"], whole.headers["idempotency-key"]) == ("low", "mine")
    assert "authorization" not in whole.headers


def test_how_steps_were_cached_is_told(asks, server):
    for one in asks("edits", jpeg(), SNOW, 2, cache="balanced"):
        assert (one.cache, one.foretold_steps) == ("balanced", FORETOLD)
    *_, streamed = asks("stream", jpeg(), SNOW, cache="balanced")
    assert (streamed.cache, streamed.foretold_steps) == ("balanced", FORETOLD)
    untold = asks("edit", jpeg(), SNOW)
    assert (untold.cache, untold.foretold_steps) == ("", 0)


def test_several_have_seeds_in_a_row(asks, server):
    pictures = asks("edits", jpeg(), SNOW, 3, seed=2**64 - 2)
    assert [picture.seed for picture in pictures] == [2**64 - 2, 2**64 - 1, 0]
    assert [picture.index for picture in pictures] == [0, 1, 2]


def test_a_drawn_seed_and_key_are_new_for_each_edit_and_told(asks, server):
    told = [asks("edit", jpeg(), SNOW).seed for _ in range(2)]
    assert [asked.seed for asked in server.asked] == told
    assert len(set(told)) == len({asked.headers["idempotency-key"] for asked in server.asked}) == 2


def test_pictures_come_from_paths_and_from_pillow_upright(asks, server, photo):
    image = Image.new("RGB", (16, 8), (1, 2, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    turned = Image.open(io.BytesIO(out.getvalue()))
    asks("edit", [photo, str(photo), turned, image.convert("CMYK"), image.convert("F")], SNOW)
    contents = [content for _, content in server.asked[0].files]
    assert contents[0] == contents[1] == photo.read_bytes()
    sent = [Image.open(io.BytesIO(content)) for content in contents[2:]]
    assert [(one.format, one.size, one.mode) for one in sent] == [
        ("PNG", (8, 16), "RGB"),
        ("PNG", (16, 8), "RGB"),
        ("PNG", (16, 8), "RGB"),
    ]


def test_a_file_that_is_not_there_is_told_before_anything_is_sent(asks, server, tmp_path):
    with pytest.raises(tritouch.UsageError, match=r"absent.jpg: No such file"):
        asks("edit", tmp_path / "absent.jpg", SNOW)
    with pytest.raises(TypeError, match="no option 'stepz'"):
        asks("edit", jpeg(), SNOW, stepz=4)
    assert server.asked == []


@pytest.mark.parametrize(
    "fault",
    [
        failing(429, "queue_full", Retry_After="0"),
        failing(503, "unavailable"),
        failing(500, "internal_error"),
        plain(502, b"<html>", Retry_After="nonsense"),
        plain(504, b"<html>"),
        hang_up,
    ],
)
def test_what_passes_is_sent_again_as_the_same_edit(asks, server, waits, fault):
    heard = []
    server.script = [fault, fault]
    settings = {"on_wait": lambda seconds, problem: heard.append((seconds, problem))}
    picture = asks("edit", jpeg(), SNOW, settings=settings)
    assert len(server.asked) == 3
    assert len({(one.headers["idempotency-key"], str(one.fields), str(one.files)) for one in server.asked}) == 1
    assert picture.seed == server.asked[0].seed
    assert [problem.passing for _, problem in heard] == [True, True]


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (failing(422, "prompt_invalid"), tritouch.RefusedError, 3),
        (failing(401, "unauthorized"), tritouch.RefusedError, 3),
        (failing(500, "edit_failed", x_should_retry="false"), tritouch.RefusedError, 3),
        (failing(504, "deadline_exceeded"), tritouch.TimeOverError, 5),
        (failing(429, "queue_full", Retry_After="301"), tritouch.BusyError, 4),
        (plain(404, b"<html>"), tritouch.RefusedError, 3),
        (plain(307, b"", Location="https://elsewhere/"), tritouch.RefusedError, 3),
        (plain(200, b"<html>"), tritouch.RefusedError, 3),
        (plain(200, b"{}"), tritouch.RefusedError, 3),
        (plain(200, b'{"data": []}'), tritouch.RefusedError, 3),
        (plain(200, b'{"data": [{"b64_json": "?"}]}'), tritouch.RefusedError, 3),
    ],
)
def test_what_does_not_pass_is_told_at_once(asks, server, fault, error, code):
    server.script = [fault]
    with pytest.raises(error) as raised:
        asks("edit", jpeg(), SNOW)
    assert (type(raised.value) is error or error is tritouch.RefusedError, raised.value.exit_code) == (True, code)
    assert "\n" not in str(raised.value)
    assert len(server.asked) == 1


def test_retries_end(asks, server, waits):
    server.always = failing(429, "queue_full", "The server is busy.")
    with pytest.raises(tritouch.BusyError, match="The server is busy") as raised:
        asks("edit", jpeg(), SNOW, settings={"retries": 2})
    assert (len(server.asked), raised.value.status, raised.value.code) == (3, 429, "queue_full")


def test_a_server_that_is_not_there_is_told_with_its_address(asks, waits, monkeypatch):
    monkeypatch.setenv("TRITOUCH_URL", "http://127.0.0.1:1/v1/")
    with pytest.raises(tritouch.UnreachableError, match=r"cannot reach http://127.0.0.1:1: .*TRITOUCH_URL"):
        asks("edit", jpeg(), SNOW, settings={"retries": 1})
    with pytest.raises(tritouch.UnreachableError):
        asks("status")


def test_a_server_that_was_never_reached_is_given_up_sooner_than_one_that_was(asks, server, waits):
    heard = []
    settings = {"on_wait": lambda seconds, problem: heard.append(problem)}
    with pytest.raises(tritouch.UnreachableError):
        asks("edit", jpeg(), SNOW, settings={**settings, "url": "http://127.0.0.1:1"})
    assert len(heard) == exchange.FIRST_RETRIES
    server.always = hang_up
    with pytest.raises(tritouch.UnreachableError):
        asks("edit", jpeg(), SNOW, settings=settings)
    assert len(heard) == exchange.FIRST_RETRIES + RETRIES


def test_an_edit_that_takes_too_long_is_given_up(asks, server):
    import threading

    released = threading.Event()
    server.always = lambda handler, asked: released.wait(120) and None
    try:
        with pytest.raises(tritouch.TimeOverError, match=r"no answer within 0.5 s"):
            asks("edit", jpeg(), SNOW, settings={"timeout": 0.5})
        assert until(lambda: len(server.asked) == 1)
    finally:
        released.set()
    assert len(server.asked) == 1


def test_no_wait_goes_beyond_the_time_of_the_edit(asks, server):
    server.always = failing(503, "unavailable", Retry_After="30")
    with pytest.raises(tritouch.BusyError):
        asks("edit", jpeg(), SNOW, settings={"timeout": 25})
    assert len(server.asked) == 1


def test_models_and_status(asks, server):
    assert asks("models") == MODELS["data"]
    found = asks("status")
    assert (found.problem, found.edits_in_flight, found.models) == ("", 3, MODELS["data"])
    server.script = [failing(503, "unavailable", "The model is not available now.")]
    assert asks("status").problem == "The model is not available now."
    server.script = [plain(200, b"{}"), plain(200, b"[]")]
    with pytest.raises(tritouch.RefusedError, match="lists no models"):
        asks("status")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a", "http://", "http://a?b", "http://[", ""])
def test_an_address_that_is_none_is_told(url, monkeypatch):
    monkeypatch.setenv("TRITOUCH_URL", url)
    if url:
        with pytest.raises(tritouch.UsageError, match="TRITOUCH_URL"):
            Client()
        with pytest.raises(tritouch.UsageError, match=r"^url: give the server's address"):
            Client(url)
    else:
        assert Client().url == "http://localhost:8000"


@pytest.mark.parametrize(("given", "named"), [({}, "TRITOUCH_URL"), ({"url_name": "--url"}, "--url"), (None, "url")])
def test_a_server_that_is_none_of_ours_is_told_by_what_named_it(server, asks, given, named):
    settings = {} if given == {} else {**(given or {}), "url": server.url}
    for answer, ask in (
        (plain(200, b"<html>"), ("models",)),
        (plain(200, b"{}"), ("models",)),
        (plain(200, b"{}"), ("edit", jpeg(), SNOW)),
        (plain(404, b"no such page"), ("models",)),
        (plain(302, b""), ("models",)),
    ):
        server.script = [answer]
        with pytest.raises(tritouch.RefusedError, match=f"(is|set) {named} (that|to)"):
            asks(*ask, settings=settings)


def test_a_key_that_no_header_carries_is_told(monkeypatch):
    with pytest.raises(tritouch.UsageError, match=r"^api_key: a key is of"):
        Client("http://a", api_key="k\n")
    monkeypatch.setenv("TRITOUCH_API_KEY", "s\u00e4sam")
    with pytest.raises(tritouch.UsageError, match=r"^TRITOUCH_API_KEY: a key is of"):
        Client("http://a")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", r"a SOCKS proxy needs `pip install httpx\[socks\]`"),
        ("HTTP_PROXY", "foo://name:secret@127.0.0.1", "give the proxy's address"),
        ("https_proxy", "127.0.0.1:secret", "give the proxy's address"),
        ("no_proxy", "[::1]", "give names of hosts"),
        ("SSL_CERT_FILE", "/absent", "No such file or directory"),
        ("SSLKEYLOGFILE", "/absent/keys", "No such file or directory"),
    ],
)
def test_a_variable_that_httpx_cannot_use_is_told_by_its_name(asks, monkeypatch, name, value, message):
    for kind in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{kind}_proxy", raising=False)
        monkeypatch.delenv(f"{kind}_proxy".upper(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", "127.0.0.1:9")  # another, which can be used
    monkeypatch.setenv(name, value)
    with pytest.raises(tritouch.UsageError, match=f"^{name}: {message}") as raised:
        asks("status", settings={"url": "http://192.0.2.1"})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7), ("0.5", 0.5), ("-3", 0), ("inf", None), ("x", None), ("", None)]
)
def test_how_long_a_server_asks_to_wait(said, seconds):
    assert problem_of(503, None, httpx.Headers({"Retry-After": said})).retry_after == seconds


def test_a_server_may_ask_to_wait_until_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    problem = problem_of(503, None, httpx.Headers({"Retry-After": date}))
    assert problem.retry_after == pytest.approx(3600, abs=60)


def test_waits_grow_up_to_a_bound_and_are_never_shorter_than_asked():
    heard: list[float] = []
    tries = exchange.Tries(12, 1e6, lambda seconds, _problem: heard.append(seconds), exchange.Server(reached=True))
    for _ in range(11):
        tries.after(tritouch.BusyError("busy"))
    assert heard[0] <= exchange.FIRST_WAIT
    assert all(later > earlier for earlier, later in pairwise(heard[:7]))
    assert max(heard) <= exchange.LONGEST_WAIT
    assert tries.after(tritouch.BusyError("busy", retry_after=77)).seconds == 77
