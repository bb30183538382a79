"""The command line: what it sends, writes, prints and returns."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.main import get_command

from tests.conftest import ROOT
from tests.tritouch.conftest import jpeg
from tests.tritouch.fake_server import STEPS, Asked, Handler, broken_after, edited, failing
from tests.tritouch.running import NIGHT, edit, left, run, said
from tritouch import serve
from tritouch.cli import app


@pytest.mark.parametrize(
    ("name", "kind"), [("n.png", "PNG"), ("n.jpg", "JPEG"), ("n.JPEG", "JPEG"), ("n.webp", "WEBP")]
)
def test_the_name_says_the_format(server, photo, name, kind):
    output = photo.with_name(name)
    result = edit(photo, NIGHT, "-o", output, "--seed", 7)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(rf"{re.escape(str(output))}: 16 x 8, seed 7, [0-9.]+ s\n", result.stdout)
    with Image.open(output) as picture:
        assert picture.format == kind
    assert left(photo.parent) == sorted([name, "photo.jpg"])


def test_steps_that_were_foretold_are_told(server, photo):
    output = photo.with_name("n.png")
    result = edit(photo, NIGHT, "-o", output, "--seed", 7, "--cache", "balanced")
    assert re.fullmatch(rf"{re.escape(str(output))}: 16 x 8, seed 7, 2 steps foretold, [0-9.]+ s\n", result.stdout)
    result = edit(photo, NIGHT, "-o", output, "--force", "--json", "--cache", "balanced")
    record = json.loads(result.stdout)
    assert (record["cache"], record["foretold_steps"]) == ("balanced", 2)


def test_flags_become_fields(server, photo):
    mask = photo.with_name("mask.png")
    mask.write_bytes(b"a mask")
    flags = "--seed 3 --steps 5 --guidance 2.5 --image-guidance 1.5 --model oil:0.7+ink --size 32x16 --n 2"
    more = ["--quality", "80", "--negative-prompt", "rain", "--low-priority", "--mask", mask, "--cache", "balanced"]
    result = edit(photo, photo, NIGHT, "-o", photo.with_name("n.jpg"), *flags.split(), *more)
    assert result.exit_code == 0
    (asked,) = server.asked
    assert asked.fields == {
        "prompt": NIGHT, "seed": "3", "num_inference_steps": "5", "guidance_scale": "2.5",
        "image_guidance_scale": "1.5", "model": "oil:0.7+ink", "size": "32x16", "n": "2", "output_format": "jpeg",
        "output_compression": "80",
        "negative_prompt": "rain", "cache": "balanced",
    }  # fmt: skip
    assert [name for name, _ in asked.files] == ["image[]", "image[]", "mask"]
    assert asked.headers["x-priority"] == "low"
    assert left(photo.parent) == ["mask.png", "n-1.jpg", "n-2.jpg", "photo.jpg"]
    assert [line.split(", ")[1] for line in result.stdout.splitlines()] == ["seed 3", "seed 4"]


def test_standard_input_and_output(server):
    result = edit("-", NIGHT, "-o", "-", "--format", "webp", stdin=jpeg())
    assert (result.exit_code, result.stderr) == (0, "")
    assert Image.open(io.BytesIO(result.stdout_bytes)).format == "WEBP"
    assert server.asked[0].files == [("image", jpeg())]
    assert Image.open(io.BytesIO(edit("-", NIGHT, "-o", "-", stdin=jpeg()).stdout_bytes)).format == "PNG"


def test_json_is_a_line_for_each_picture(server, photo):
    result = edit(photo, NIGHT, "-o", photo.with_name("n.png"), "--seed", 7, "--n", 2, "--json")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["status"], one["seed"], one["width"], one["height"]) for one in records] == [
        ("edited", 7, 16, 8),
        ("edited", 8, 16, 8),
    ]
    assert [one["output"] for one in records] == [str(photo.with_name(f"n-{number}.png")) for number in (1, 2)]
    assert records[0]["inputs"] == [str(photo)]


def test_a_stream_gives_the_same_picture_and_tells_steps_to_readers_of_json(server, photo):
    outputs = [photo.with_name(name) for name in ("one.png", "two.png")]
    edit(photo, NIGHT, "-o", outputs[0], "--seed", 7)
    result = edit(photo, NIGHT, "-o", outputs[1], "--seed", 7, "--stream", "--json")
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    *steps, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["status"], one["step"], one["steps"]) for one in steps] == [
        ("progress", step, STEPS) for step in range(1, STEPS + 1)
    ]
    assert (last["status"], last["seed"]) == ("edited", 7)
    assert (edit(photo, NIGHT, "-o", outputs[1], "--stream", "--force").stderr) == ""


@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        ([failing(422, "parameter_invalid", "num_inference_steps: too many.")], 3, r"--steps: too many\.$"),
        ([failing(401, "unauthorized", "A token is needed.")], 3, r"TRITOUCH_API_KEY"),
        ([failing(429, "queue_full", "Busy.")] * 2, 4, r"Busy\.$"),
        ([failing(504, "deadline_exceeded", "Too long.")], 5, r"Too long\.$"),
        ([broken_after(1)] * 2, 4, "ended the stream|lost the connection"),
    ],
)
@pytest.mark.usefixtures("waits")
def test_a_failure_is_one_line_and_its_exit_code(server, photo, script, code, message):
    server.script = list(script)
    stream = ["--stream"] if "stream" in message else []
    result = edit(photo, NIGHT, "-o", photo.with_name("n.png"), "--retries", 1, *stream)
    assert result.exit_code == code
    assert re.search(message, said(result, waited="lost" in message))
    assert (left(photo.parent), server.script, result.stdout) == (["photo.jpg"], [], "")


def test_retries_are_the_same_edit(server, photo, waits):
    server.script = [failing(503, "unavailable", Retry_After="0")]
    assert edit(photo, NIGHT, "-o", photo.with_name("n.png")).exit_code == 0
    first, second = server.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.fields == second.fields


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.jpg", NIGHT], "say where to: -o FILE"),
        (["photo.jpg", NIGHT, "-o", "n.png", "--out-dir", "d"], "say where to: -o FILE"),
        (["absent.jpg", NIGHT, "-o", "n.png"], "absent.jpg: there is no such file"),
        (["photo.jpg", NIGHT, "-o", "n.gif"], "name it .png, .jpg or .webp"),
        (["photo.jpg", NIGHT, "-o", "n"], "name it .png, .jpg or .webp"),
        (["photo.jpg", NIGHT, "-o", "n.png", "--format", "jpg"], "leave one of the two out"),
        (["photo.jpg", NIGHT, "-o", "absent/n.png"], "absent: there is no such folder"),
        (["photo.jpg", NIGHT, "-o", "there.png"], "there.png is there already: --force"),
        (["photo.jpg", NIGHT, "-o", "photo.jpg", "--force"], "one of the pictures to edit"),
        (["photo.jpg", NIGHT, "--out-dir", ".", "--force"], "one of the pictures to edit"),
        (["photo.jpg", "there.png", "-o", "n.png"], "there.png is a picture: the last argument is the sentence"),
        (["folder", NIGHT, "-o", "n.png"], "folder is a folder: give --out-dir"),
        (["folder", NIGHT, "--out-dir", "d"], "folder holds no pictures"),
        (["photo.jpg", "./photo.jpg", NIGHT, "--out-dir", "d"], "would both become"),
        (["-", NIGHT, "--out-dir", "d"], "standard input has no name"),
        (["-", "-", NIGHT, "-o", "n.png"], "can be read once"),
        (["photo.jpg", NIGHT, "-o", "-", "--n", "2"], "standard output takes one picture"),
        (["photo.jpg", NIGHT, "-o", "-", "--json"], "not both"),
        (["photo.jpg", NIGHT, "-o", "n.png", "--size", "big"], "--size: give auto, or"),
        (["photo.jpg", NIGHT, "-o", "n.png", "--mask", "absent.png"], "absent.png: No such file"),
        (["photo.jpg", NIGHT, "--out-dir", "there.png"], "there.png is a file: --out-dir takes a folder"),
        (["photo.jpg", NIGHT, "-o", "n" * 300 + ".png"], "File name too long"),
        (["p" * 300, NIGHT, "-o", "n.png"], "File name too long"),
        (["photo.jpg", NIGHT, "-o", "n.png", "--url", "nowhere"], "--url: give the server's address"),
    ],
)
def test_a_wrong_command_is_told_before_anything_is_sent(server, photo, monkeypatch, arguments, message):
    monkeypatch.chdir(photo.parent)
    (photo.parent / "folder").mkdir()
    (photo.parent / "there.png").write_bytes(b"mine")
    result = edit(*arguments)
    assert result.exit_code == 2
    assert message in said(result)
    assert (server.asked, (photo.parent / "there.png").read_bytes(), photo.read_bytes()) == ([], b"mine", jpeg())


@pytest.mark.parametrize(
    "arguments", [["edit", "a.jpg"], ["edit", "a", "b", "--jobs", "0"], ["edit", "a", "b", "--n", "x"], ["no"]]
)
def test_what_the_parser_refuses_is_usage_too(server, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_a_file_that_cannot_be_written_leaves_nothing(server, photo, monkeypatch):
    """A disk that fills up, at the second of two files."""
    write, count = Path.write_bytes, []

    def full(path: Path, content: bytes) -> int:
        count.append(path)
        if len(count) == 2:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    result = edit(photo, NIGHT, "-o", photo.with_name("n.png"), "--n", 2)
    assert (result.exit_code, left(photo.parent)) == (1, ["photo.jpg"])
    assert "n-2.png cannot be written: No space left on device" in said(result)


@pytest.mark.parametrize("name", ["there/n.png", "/proc/n.png"])
def test_what_cannot_be_written_is_told_before_its_edit(server, photo, name):
    """A folder of this name, and a folder in which nobody can make a file."""
    output = photo.parent / name
    (photo.parent / "there" / "n.png").mkdir(parents=True)
    result = edit(photo, NIGHT, "-o", output, "--force")
    assert (result.exit_code, server.asked) == (1, [])
    assert f"{output} cannot be written: " in said(result)
    assert left(photo.parent / "there") == ["n.png"]


def test_a_file_that_comes_to_be_while_its_edit_runs_is_kept(server, photo):
    def behave(handler: Handler, asked: Asked) -> None:
        photo.with_name("n.png").write_bytes(b"another's")
        edited(handler, asked)

    server.always = behave
    result = edit(photo, NIGHT, "-o", photo.with_name("n.png"))
    assert (result.exit_code, photo.with_name("n.png").read_bytes()) == (2, b"another's")
    assert "--force" in said(result)


def test_models(server):
    assert run("models").stdout.splitlines() == [
        "base", "ink", "  --steps: 20", "  --guidance: 7.5", "  most pictures of one edit: 4",
        "sdxl", "sdxl/oil", "  --steps: 28", "  --guidance: 7.5", "  most pictures of one edit: 4",
    ]  # fmt: skip
    assert [one["id"] for one in json.loads(run("models", "--json").stdout)] == ["base", "ink", "sdxl", "sdxl/oil"]


def test_status(server):
    result = run("status")
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            f"server    {server.url}",
            "ready     yes",
            "edits     3 in flight",
            "model     base, sdxl",
            "adapters  ink, sdxl/oil",
        ],
    )
    server.script = [failing(503, "unavailable", "The model is not available now.")]
    result = run("status", "--json")
    record = {"url": server.url, "ready": False, "problem": "The model is not available now.", "edits_in_flight": None}
    assert (result.exit_code, json.loads(result.stdout)) == (4, record | {"models": []})


@pytest.mark.parametrize("command", ["models", "status"])
def test_no_server_is_one_line(monkeypatch, command):
    monkeypatch.setenv("TRITOUCH_URL", "http://127.0.0.1:1")
    result = run(command)
    assert (result.exit_code, result.stdout) == (4, "")
    assert "cannot reach http://127.0.0.1:1" in said(result)


@pytest.mark.usefixtures("waits")
def test_who_waits_for_a_server_that_is_not_there_is_told_once(photo):
    result = edit(photo, NIGHT, "-o", photo.with_name("n.png"), "--url", "http://127.0.0.1:1")
    assert result.exit_code == 4
    assert "cannot reach http://127.0.0.1:1" in said(result, waited=True)


def test_the_page_has_every_flag() -> None:
    text = (ROOT / "docs" / "client.md").read_text("utf-8")
    rows = text.split("| flag | meaning |")[1].split("\n\n")[0].splitlines()
    listed = {flag for row in rows for flag in re.findall(r"`(--?[a-z-]+)`", row.split(" | ")[0])}
    command = get_command(app).commands["edit"]
    flags = {flag for parameter in command.params for flag in parameter.opts if flag.startswith("-")}
    assert listed == flags - {"--help"}


def test_serve_takes_what_the_servers_own_command_takes() -> None:
    source = (ROOT / "embedded" / "__main__.py").read_text("utf-8")
    theirs = set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', source))
    ours = {flag for parameter in get_command(app).commands["serve"].params for flag in parameter.opts}
    assert ours - {"--help"} == theirs


def test_serve_becomes_the_servers_own_command_in_the_callers_folder(tmp_path):
    """It is told what is wrong as `python -m embedded` tells it, of a path that is relative."""
    command = [sys.executable, "-m", "tritouch", "serve", "--repository", "absent", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"embedded: .*absent.*\n", done.stderr)


def test_serve_needs_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "__file__", str(tmp_path / "tritouch" / "serve.py"))
    monkeypatch.chdir(tmp_path)
    result = run("serve")
    assert result.exit_code == 2
    assert "serve needs a checkout" in said(result)
