"""`python -m gateway` as a process: sockets, signals, and settings that are wrong."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import __main__ as command
from gateway.settings import Settings
from tests.gateway.asking import EDITS, body, until
from tests.gateway.fake_triton import FakeTriton, after, begun, finished, telling, when


@contextmanager
def process(
    triton: FakeTriton, *, limits: str = "true", output: Any = subprocess.PIPE, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The gateway on an inherited socket, after the shell's `limits`. Gives the process and its base URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    shell = ["sh", "-c", f'{limits} && exec "$0" "$@"']
    command = [*shell, sys.executable, "-m", "gateway", "--fd", str(listening.fileno())]
    environment = os.environ | {"TRITOUCH_TRITON_GRPC": triton.address} | environment
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with (
        listening,
        subprocess.Popen(
            command,
            env=environment,
            pass_fds=[listening.fileno()],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        ) as gateway,
    ):
        listening.close()
        try:
            assert until(lambda: httpx.get(url + "/readyz", timeout=60, trust_env=False).status_code == 200)
            yield gateway, url
        finally:
            gateway.kill()


@pytest.fixture(scope="module")
def url(_triton: FakeTriton) -> Iterator[str]:
    """One process for all tests that leave it as it is."""
    _triton.reset()
    with process(_triton) as (_, url):
        yield url


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nb d: c\r\n\r\n"]
)
def test_what_is_no_http_is_400_of_the_one_shape(url: str, nonsense: bytes) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(nonsense + b"\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"x-request-id: " in head.lower()
    assert json.loads(content)["error"]["code"] == "body_unreadable"


@pytest.mark.parametrize(
    "wrong",
    [
        {"TRITOUCH_PORT": "65536"},
        {"TRITOUCH_EDIT_TIMEOUT_SECONDS": "nan"},
        {"TRITOUCH_EDIT_TIMEOUT_SECONDS": "86401"},
        {"TRITOUCH_DRAIN_SECONDS": "86401"},
        {"TRITOUCH_DRAIN_SECONDS": "2.5"},
        {"TRITOUCH_API_KEYS": ","},
        {"TRITOUCH_API_KEYS": "geheim\u00ef"},
        {"TRITOUCH_API_KEYS": "good,ge\theim"},
        {"TRITOUCH_API_KEYS": "geheim\udcff"},
        {"TRITOUCH_URL_HOSTS": "https://example.com/"},
        {"TRITOUCH_CORS_ORIGINS": "https://example.com/"},
        {"TRITOUCH_CORS_ORIGINS": "example.com"},
        {"TRITOUCH_CORS_ORIGINS": "https://*.example.com"},
        {"TRITOUCH_CORS_ORIGINS": "null"},
    ],
)
def test_a_wrong_setting_is_named_and_is_code_2(
    wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ((name, value),) = wrong.items()
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["gateway"])
    monkeypatch.setattr(command, "Server", None)  # so that a setting that is taken fails here, and does not serve
    assert command.main() == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{name}: ")
    assert "geheim" not in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("text", [",", " ", " , ,"])
@pytest.mark.parametrize("name", ["api_keys", "cors_origins", "url_hosts", "url_private_hosts", "url_ports"])
def test_a_list_of_nothing_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"TRITOUCH_{name.upper()}", text)
    with pytest.raises(ValueError, match="lists nothing"):
        Settings()
    monkeypatch.setenv(f"TRITOUCH_{name.upper()}", "")
    assert getattr(Settings(), name) == ()


def test_what_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in Settings.model_fields.items():
        if not isinstance(field.default, tuple):
            monkeypatch.setenv(f"TRITOUCH_{name.upper()}", "")
    assert Settings() == Settings.model_construct()


def test_origins_are_written_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given = "HTTPS://App.Example.com:443, http://localhost:3000,http://[::1]:80,http://a:8080,chrome-extension://abc,*"
    monkeypatch.setenv("TRITOUCH_CORS_ORIGINS", given)
    wanted = "https://app.example.com http://localhost:3000 http://[::1] http://a:8080 chrome-extension://abc *"
    assert Settings().cors_origins == tuple(wanted.split())


@pytest.mark.parametrize("name", ["url_hosts", "url_private_hosts"])
def test_hosts_are_written_as_urls_are_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"TRITOUCH_{name.upper()}", "Images.Example.COM, 10.0.0.7,minio, FD00:0::1,")
    assert getattr(Settings(), name) == ("images.example.com", "10.0.0.7", "minio", "fd00::1")


@pytest.mark.parametrize(
    "host",
    [
        "example.com:443",
        "[::1]",
        "[::1]:80",
        "http://example.com",
        "example.com/",
        "a b.com",
        "a\tb",
        "*.example.com",
        "a..b",
        "é.com",
    ],
)
def test_hosts_that_no_url_could_name_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match="without scheme, port, path"):
        Settings(url_hosts=("example.com", host))


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.slow
def test_sigterm_loses_nothing_that_was_admitted(triton: FakeTriton) -> None:
    released = threading.Event()
    triton.behave = when(released)
    triton.tell = telling(begun(), released, finished)
    with process(triton) as (gateway, url), ThreadPoolExecutor(9) as pool:

        def ask(number: int) -> int:
            return httpx.post(
                url + EDITS, json=body(seed=number), timeout=60, trust_env=False, verify=False
            ).status_code

        admitted = [pool.submit(ask, number) for number in range(8)]
        stream = pool.submit(httpx.post, url + EDITS, json=body(stream=True), timeout=60, trust_env=False, verify=False)
        assert until(lambda: triton.active == 9)
        gateway.send_signal(signal.SIGTERM)
        assert until(lambda: httpx.get(url + "/readyz", timeout=60, trust_env=False).status_code == 503)
        time.sleep(0.3)  # three times as long as the server takes to look whether it may stop
        assert [ask(number) for number in range(8, 16)] == [503] * 8
        released.set()
        assert [one.result() for one in admitted] == [200] * 8
        assert "event: image_edit.completed" in stream.result().text
        assert gateway.wait(60) == 0
    assert len(triton.requests) == 9


@pytest.mark.slow
def test_a_drain_has_an_end(triton: FakeTriton) -> None:
    triton.behave = after(600)
    with process(triton, TRITOUCH_DRAIN_SECONDS="1") as (gateway, url), ThreadPoolExecutor() as pool:
        answer = pool.submit(httpx.post, url + EDITS, json=body(), timeout=120, trust_env=False, verify=False)
        assert until(lambda: triton.active == 1)
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(60) == 0
        assert answer.exception() or answer.result().status_code >= 500


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "closed"])
def test_a_log_that_cannot_be_written_touches_no_request(triton: FakeTriton, how: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with (
        Path("/dev/full").open("w") if how == "full" else os.fdopen(writer, "w") as output,
        process(triton, output=output, TRITOUCH_LOG_LEVEL="debug") as (gateway, url),
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):
        answers = [client.post(EDITS, json=body()) for _ in range(5)]
        assert [one.status_code for one in answers] == [200] * 5
        ports = {one.extensions["network_stream"].get_extra_info("client_addr")[1] for one in answers}
        assert len(ports) == 1, "one connection serves them all"
        gateway.terminate()
        assert gateway.wait(60) == 0


@pytest.mark.slow
def test_a_log_that_nobody_reads_holds_nothing_up(triton: FakeTriton) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8192)
    with (
        os.fdopen(reader, "rb") as log,
        os.fdopen(writer, "w") as output,
        process(triton, output=output) as (gateway, url),
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):
        for _ in range(60):
            assert client.get("/nothing").status_code == 404
        answered = client.get("/metrics").text  # so that the line of the last of them has been written, or lost
        assert 'requests_total{reason="not_found",route="none",status="404"} 60.0' in answered
        kept = os.read(log.fileno(), 65536)
        assert client.get("/nothing").status_code == 404
        gateway.terminate()
        assert gateway.wait(60) == 0
        output.close()
        lines = [json.loads(line) for line in (kept + log.read()).splitlines()]
    lost = [line["lines"] for line in lines if line["event"] == "log_lines_lost"]
    requests = sum(line["event"] == "request" for line in lines)
    assert len(lost) == 1
    assert lost[0] > 1
    assert requests + lost[0] == 60 + 1


@pytest.mark.slow
def test_silent_connections_lock_nobody_out(triton: FakeTriton) -> None:
    """More of them than files that may be open."""
    limits = "ulimit -n 256"
    with process(triton, limits=limits, TRITOUCH_HEAD_TIMEOUT_SECONDS="3600") as (_, url), ExitStack() as silent:
        host, port = url.removeprefix("http://").split(":")
        for _ in range(400):
            silent.enter_context(socket.create_connection((host, int(port)), timeout=60))
        for _ in range(5):
            assert httpx.get(url + "/livez", trust_env=False, timeout=60).status_code == 200
            assert httpx.post(url + EDITS, json=body(), trust_env=False, timeout=60).status_code == 200
