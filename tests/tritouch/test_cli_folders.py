"""Many edits of one command: folders, what is done already, what fails, how many at once."""

import io
import json
import os
import threading

from PIL import Image

from tests.tritouch.conftest import jpeg
from tests.tritouch.fake_server import Asked, Handler, edited, failing
from tests.tritouch.running import NIGHT, edit, left, run


def test_folders_and_files_become_an_edit_each(server, photos, photo, tmp_path):
    out = tmp_path / "new" / "edited"
    result = edit(photos, photo, NIGHT, "--out-dir", out, "--jobs", 2)
    assert (result.exit_code, result.stderr) == (0, "tritouch: 4 edited\n")
    assert left(out) == ["a.jpg", "b.PNG", "c.webp", "photo.jpg"]
    written = [Image.open(io.BytesIO((out / name).read_bytes())).format for name in left(out)]
    assert written == ["JPEG", "PNG", "WEBP", "JPEG"]
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 4
    assert len(result.stdout.splitlines()) == 4


def test_of_a_folder_only_files_are_edited_and_a_broken_link_is_told_once(server, photos, tmp_path):
    os.mkfifo(photos / "pipe.jpg")  # reading it would wait for ever
    (photos / "folder.jpg").mkdir()
    (photos / "link.jpg").symlink_to(photos / "a.jpg")
    (photos / "lost.jpg").symlink_to(photos / "gone.jpg")
    result = edit(photos, NIGHT, "--out-dir", tmp_path / "edited")
    lost = photos / "lost.jpg"
    assert result.stderr == f"tritouch: {lost}: No such file or directory\ntritouch: 4 edited, 1 failed\n"
    assert left(tmp_path / "edited") == ["a.jpg", "b.PNG", "c.webp", "link.jpg"]


def test_what_is_done_is_skipped_unless_forced(server, photos, tmp_path):
    out = tmp_path / "edited"
    out.mkdir()
    (out / "a.jpg").write_bytes(b"done")
    result = edit(photos, NIGHT, "--out-dir", out)
    assert result.stderr.startswith("tritouch: 2 edited, 1 skipped")
    assert (result.exit_code, (out / "a.jpg").read_bytes()) == (0, b"done")
    records = [json.loads(line) for line in edit(photos, NIGHT, "--out-dir", out, "--json").stdout.splitlines()]
    assert [one["status"] for one in records] == ["skipped"] * 3
    assert edit(photos, NIGHT, "--out-dir", out, "--force").stderr == "tritouch: 3 edited\n"
    assert (out / "a.jpg").read_bytes() != b"done"


def test_more_edits_of_each_are_those_that_are_not_there(server, photos, tmp_path):
    """The same files as of one command, of which none is made twice; so it is, too, where one ended half-way."""
    out, whole = tmp_path / "edited", tmp_path / "whole"
    command = [photos / "a.jpg", photos / "c.webp", NIGHT, "--seed", 7]
    edit(*command, "--out-dir", whole, "--n", 4)
    edit(*command, "--out-dir", out, "--n", 2)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    server.asked.clear()
    result = edit(*command, "--out-dir", out, "--n", 4)
    assert (result.exit_code, result.stderr) == (0, "tritouch: 2 edited\n")
    assert [(asked.n, asked.seed) for asked in server.asked] == [(2, 9)] * 2
    assert times == {path: path.stat().st_mtime_ns for path in times}
    for number in (1, 3):
        (out / f"a-{number}.jpg").unlink()
    server.asked.clear()
    assert edit(*command, "--out-dir", out, "--n", 4).stderr.startswith("tritouch: 1 edited, 1 skipped")
    assert [(asked.n, asked.seed) for asked in server.asked] == [(1, 7), (1, 9)]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }


def test_a_seed_that_is_none_is_the_servers_to_tell_and_the_last_is_followed_by_0(server, photo, tmp_path):
    (tmp_path / "photo-1.jpg").write_bytes(b"done")
    for seed, sent in ((2**64 - 1, 0), (-1, -1), (2**64, 2**64)):
        server.script = [failing(422, "parameter_invalid")]
        edit(photo, NIGHT, "--out-dir", tmp_path, "--n", 2, "--seed", seed)
        assert server.asked[-1].seed == sent


def test_one_that_fails_stops_no_other(server, photos, tmp_path):
    def behave(handler: Handler, asked: Asked) -> None:
        bad = asked.files[0][1] != jpeg()
        (failing(422, "image_unreadable", "An image is not readable.") if bad else edited)(handler, asked)

    (photos / "b.PNG").write_bytes(b"none")
    server.always = behave
    out = tmp_path / "edited"
    result = edit(photos, NIGHT, "--out-dir", out, "--json", "--jobs", 1)
    failure, summary = result.stderr.splitlines()
    assert failure == f"tritouch: {photos / 'b.PNG'}: An image is not readable."
    assert summary == "tritouch: 2 edited, 1 failed"
    assert (result.exit_code, left(out)) == (3, ["a.jpg", "c.webp"])
    record = json.loads(result.stdout.splitlines()[1])
    assert (record["status"], record["error"]["code"]) == ("failed", "image_unreadable")


def test_several_go_at_once_and_no_more_than_asked_for(server, photos, tmp_path):
    """All of two are there at the same time: each waits for the other."""
    together, inside, most = threading.Barrier(2), 0, 0
    lock = threading.Lock()

    def behave(handler: Handler, asked: Asked) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait(60)
        with lock:
            inside -= 1
        edited(handler, asked)

    (photos / "d.jpg").write_bytes(jpeg())
    server.always = behave
    assert edit(photos, NIGHT, "--out-dir", tmp_path / "edited", "--jobs", 2).exit_code == 0
    assert (most, len(server.asked)) == (2, 4)


def test_the_real_gateway_edits_a_folder_though_it_takes_two_at_once(gateway, photos, tmp_path, waits):
    """Three edits at once, two places: one is told to come again, and does."""
    from tests.gateway.fake_triton import after

    gateway.triton.behave = after(0.05)
    result = edit(photos, NIGHT, "--out-dir", tmp_path / "edited", "--jobs", 3, "--format", "jpg", "--retries", 200)
    assert (result.exit_code, result.stderr) == (0, "tritouch: 3 edited\n")
    assert len(gateway.triton.requests) == 3
    assert run("status").exit_code == run("models").exit_code == 0
