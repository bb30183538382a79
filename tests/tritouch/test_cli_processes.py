"""The command as a process of its own: signals, terminals, pipes, and names that are not UTF-8."""

import base64
import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.gateway.asking import until
from tests.tritouch.conftest import jpeg
from tests.tritouch.fake_server import Asked, FakeServer, Handler, edited, failing
from tests.tritouch.running import NIGHT, edit, left


def process(*arguments: object, **more: Any) -> subprocess.Popen[bytes]:
    """`tritouch` as a process, which Ctrl-C reaches even where these tests run in a shell's background.

    Nothing of Python runs between its fork and its exec: of a process with threads of gRPC's it may abort.
    """
    command = ["env", "--default-signal=INT", sys.executable, "-m", "tritouch", *(str(one) for one in arguments)]
    return subprocess.Popen(command, cwd=ROOT, **more)


def test_what_is_not_utf_8_is_told_or_written_as_it_can_be(server, photo):
    odd = os.fsencode(photo.parent) + b"/\xff.jpg"
    Path(os.fsdecode(odd)).write_bytes(jpeg())
    command = [sys.executable, "-m", "tritouch", "edit", odd, b"make it \xff", "-o", photo.with_name("n.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.endswith(b"prompt: this is not UTF-8\n")
    command[5:] = [NIGHT, "--out-dir", photo.parent / "edited"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"tritouch: 1 edited\n")
    assert [os.fsencode(path.name) for path in (photo.parent / "edited").iterdir()] == [b"\xff.jpg"]


@pytest.mark.parametrize(("output", "code"), [("--out-dir=edited", 0), ("-o-", 1)])
def test_a_reader_that_has_gone_is_no_crash(server, photos, output, code):
    """A pipe whose other end is closed: results are dropped, a picture is told to be."""
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [photos / "a.jpg", NIGHT, output.replace("edited", str(photos / "edited"))]
    with process("edit", *arguments, stdout=writing, stderr=subprocess.PIPE) as running:
        os.close(writing)
        _, stderr = running.communicate(timeout=120)
    assert running.returncode == code
    assert len(stderr.splitlines()) == 1
    assert (b"Broken pipe" in stderr) == bool(code)


@pytest.mark.parametrize("command", [["models"], ["status", "--json"]])
def test_a_reader_who_has_seen_enough_of_an_answer_is_no_failure(server, command):
    with unread_pipe() as pipe, process(*command, stdout=pipe, stderr=subprocess.PIPE) as running:
        _, stderr = running.communicate(timeout=120)
    assert (running.returncode, stderr) == (0, b"")


def test_an_answer_that_cannot_be_written_is_one_line(server):
    with Path("/dev/full").open("wb") as full, process("models", stdout=full, stderr=subprocess.PIPE) as running:
        _, stderr = running.communicate(timeout=120)
    message = b"tritouch: standard output cannot be written: No space left on device\n"
    assert (running.returncode, stderr) == (1, message)


def test_edits_and_exit_codes_are_the_same_where_nobody_reads_what_is_told(server, photos, tmp_path):
    """Of the first edit, which fails, standard error is told; two more follow it."""
    server.script = [failing(422, "prompt_invalid")]
    out = tmp_path / "edited"
    with unread_pipe() as pipe:
        command = ["edit", photos, NIGHT, "--out-dir", out, "--jobs", 1]
        assert process(*command, stdout=pipe, stderr=pipe).wait(120) == 3
        assert left(out) == ["b.PNG", "c.webp"]
        assert process("models", "--url", "nowhere", stdout=pipe, stderr=pipe).wait(120) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "made"),
    [
        (["models"], 0, []),
        (["models", "--url", "nowhere"], 2, []),
        (["edit", "photo.jpg", NIGHT, "--out-dir", "edited"], 0, ["photo.jpg"]),
        (["edit", "photo.jpg", NIGHT, "-o", "-"], 2, []),
        (["serve", "--repository", "absent", "--port", "0"], 2, []),
    ],
)
def test_closed_output_is_no_crash(server, photo, arguments, code, made):
    """Standard error, too, as a shell closes both."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    (photo.parent / "edited").mkdir()
    command = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-m", "tritouch", *arguments]
    assert subprocess.run(command, cwd=photo.parent, env=environment, check=False).returncode == code
    assert left(photo.parent / "edited") == made
    assert [asked.path for asked in server.asked if asked.fields] == ["/v1/images/edits"] * len(made)


def test_an_interrupt_leaves_what_is_done_and_no_pieces(server, photos, tmp_path):
    """The first of three is done, the second under way."""
    out, released = tmp_path / "edited", threading.Event()

    def behave(handler: Handler, asked: Asked) -> None:
        if len(server.asked) > 1:
            released.wait(120)
        else:
            edited(handler, asked)

    server.always = behave
    command = ["edit", photos, NIGHT, "--out-dir", out, "--jobs", 1]
    with process(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert until(lambda: len(server.asked) >= 2)
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=120)
    released.set()
    assert running.returncode == 130
    assert stderr.decode() == "tritouch: interrupted: 1 edited; the same command goes on with the rest\n"
    assert left(out) == ["a.jpg"]
    server.always = edited
    assert edit(*command[1:]).stderr.startswith("tritouch: 2 edited, 1 skipped")


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_an_interrupt_ends_the_wait_for_a_picture_from_a_pipe(server, tmp_path, name):
    """It comes when what was written is read, and the next is waited for."""
    reading, writing = os.pipe()
    with process("edit", name, NIGHT, "-o", tmp_path / "n.png", stdin=reading, stderr=subprocess.PIPE) as running:
        os.close(reading)
        try:
            os.write(writing, b"the beginning")
            assert until(lambda: unread(writing) == 0 and sleeps(running))
            running.send_signal(signal.SIGINT)
            _, stderr = running.communicate(timeout=120)
        finally:
            os.close(writing)
    assert (running.returncode, stderr) == (130, b"tritouch: interrupted\n")
    assert (server.asked, left(tmp_path)) == ([], [])


def test_an_interrupt_ends_the_wait_for_a_reader_of_the_picture(server, photo):
    """It has the first byte, so that the rest, which is more than the pipe holds, is being written."""
    with picture_for_a_pipe(server, photo, unbuffered="") as (running, reading, _):
        assert os.read(reading, 1)
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=120)
    assert (running.returncode, stderr) == (130, b"tritouch: interrupted\n")


def test_a_command_that_is_stopped_and_goes_on_writes_the_whole_picture(server, photo):
    """Without a buffer a write ends when it is stopped."""
    with picture_for_a_pipe(server, photo, unbuffered="1") as (running, reading, size):
        written = len(os.read(reading, 1))
        running.send_signal(signal.SIGSTOP)
        os.waitpid(running.pid, os.WUNTRACED)
        running.send_signal(signal.SIGCONT)
        while some := os.read(reading, 65536):
            written += len(some)
        _, stderr = running.communicate(timeout=120)
    assert (running.returncode, stderr, written) == (0, b"", size)


@contextmanager
def picture_for_a_pipe(
    server: FakeServer, photo: Path, unbuffered: str
) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """The command, what it writes to, the picture's bytes, which are four times what the pipe holds."""
    reading, writing = os.pipe()
    size = 4 * fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    whole = {"data": [{"b64_json": base64.b64encode(bytes(size)).decode(), "size": "16x8"}]}
    server.script = [lambda handler, _asked: handler.json(200, whole)]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = ["edit", photo, NIGHT, "-o-"]
    with process(*command, stdout=writing, stderr=subprocess.PIPE, env=environment) as running:
        os.close(writing)
        try:
            yield running, reading, size
        finally:
            os.close(reading)


@contextmanager
def unread_pipe() -> Iterator[int]:
    """One whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


def unread(pipe: int) -> int:
    """Bytes."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def sleeps(running: subprocess.Popen[bytes]) -> bool:
    """Whether it waits for something."""
    return Path(f"/proc/{running.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "S"


def test_progress_is_for_terminals_alone(server, photos, tmp_path):
    """On one, standard error has a bar, and standard output, a file here, has the same as ever."""
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with process(
        "edit", photos, NIGHT, "--out-dir", tmp_path / "edited", "--json",
        stdout=subprocess.PIPE, stderr=slave, env=environment,
    ) as running:  # fmt: skip
        stdout, _ = running.communicate(timeout=120)
    os.close(slave)
    shown = b""
    while select.select([master], [], [], 0)[0]:
        try:
            shown += os.read(master, 65536)
        except OSError:
            break
    os.close(master)
    assert running.returncode == 0
    assert b"3/3" in shown
    assert b"3 edited" in shown
    assert [json.loads(line)["status"] for line in stdout.splitlines()] == ["edited"] * 3
