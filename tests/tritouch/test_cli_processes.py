"""The command as a process of its own: signals, terminals, pipes, and names that are not UTF-8."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.gateway.asking import until
from tests.tritouch.conftest import jpeg
from tests.tritouch.fake_server import Asked, Handler, edited
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
