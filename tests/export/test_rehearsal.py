"""The edits that narrow engines are calibrated on: what a folder must hold, and what is held out."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from export.checkpoint import find
from export.component.build import Make
from export.engines import load as load_engine
from export.errors import BadInputError
from export.quality import Judge
from export.rehearsal import OWN, Engines, Rehearsal, Request, requests
from export.trial import Trial
from families import load
from tests.families.alone import LIMITS, settings_of


def test_own_pictures_are_split_and_meet_many_timesteps(checkpoint: Path) -> None:
    asked, held = requests(OWN, settings_of("instruct_pix2pix", checkpoint))
    assert (len(asked), len(held)) == (6, 3)
    assert not {one.picture for one in asked} & {one.picture for one in held}
    assert len({one.prompt for one in (*asked, *held)}) == 9


@pytest.mark.parametrize(
    ("sentences", "pictures", "words"),
    [
        (None, 3, "sentences.txt, a sentence a line, cannot be read"),
        ("\n \n", 3, "sentences.txt has no sentences"),
        ("make it night\n", 2, "has 2 pictures .* 3 to 64 are needed"),
    ],
)
def test_a_folder_that_cannot_serve_is_one_line(
    tmp_path: Path, checkpoint: Path, sentences: str | None, pictures: int, words: str
) -> None:
    for place in range(pictures):
        (tmp_path / f"{place}.png").write_bytes(b"")
    if sentences is not None:
        (tmp_path / "sentences.txt").write_text(sentences)
    with pytest.raises(BadInputError, match=f"--calibration {tmp_path}.*{words}"):
        requests(tmp_path, settings_of("instruct_pix2pix", checkpoint))


def test_a_folder_named_as_a_picture_is_told(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "sentences.txt").write_text("make it night\n")
    (tmp_path / "a.png").mkdir()
    with pytest.raises(BadInputError, match=r"a\.png is named as a picture, and is no file"):
        requests(tmp_path, settings_of("instruct_pix2pix", checkpoint))


def test_a_mark_of_the_byte_order_is_no_part_of_a_sentence(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "sentences.txt").write_bytes("make it night\r\n".encode("utf-8-sig"))
    for place in range(3):
        (tmp_path / f"{place}.png").write_bytes(b"")
    asked, held = requests(tmp_path, settings_of("instruct_pix2pix", checkpoint))
    assert {one.prompt for one in (*asked, *held)} == {"make it night"}


def test_a_picture_that_is_none_is_named(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    settings = settings_of("instruct_pix2pix", checkpoint)
    table = load("instruct_pix2pix", "table").components(checkpoint, LIMITS)
    engines = Engines(table, defaultdict(lambda: lambda _: {}))
    asked = [Request(tmp_path / "a.png", "make it night", 1, 0)]
    edits = Rehearsal(find(str(checkpoint), None), settings).edits(asked, engines)
    with pytest.raises(BadInputError, match=r"'make it night' of .*a\.png cannot be made: the image is not a readable"):
        next(edits)


def test_pictures_for_nothing_are_refused(tmp_path: Path) -> None:
    nothing: Any = None
    judge = Judge((), Trial(nothing, (), nothing, (), tmp_path), load_engine("openvino", []), tmp_path, tmp_path)
    said = f"--calibration {tmp_path}: nothing is narrowed: name int8, fp8, nvfp4, w8, w4"
    with pytest.raises(BadInputError, match=said):
        judge.require_able()


def test_all_pictures_are_judged_before_anything_is_built(tmp_path: Path, checkpoint: Path) -> None:
    whole = next(OWN.glob("*.jpg")).read_bytes()
    pictures = {"a.jpg": whole, "b.jpg": whole[: len(whole) // 2], "c.png": b"no picture", "d.jpg": whole}
    for name, content in pictures.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "sentences.txt").write_text("make it night\n")
    settings = settings_of("instruct_pix2pix", checkpoint)
    table = load("instruct_pix2pix", "table").components(checkpoint, LIMITS)
    bank: Any = None
    trial = Trial(Rehearsal(find(str(checkpoint), None), settings), table, bank, (), tmp_path)
    judge = Judge([Make(table[-1], "w8", "")], trial, load_engine("openvino", []), tmp_path, tmp_path)
    said = rf"^--calibration {tmp_path}: b\.jpg, .*cannot be edited.*; c\.png, .*cannot be edited"
    with pytest.raises(BadInputError, match=said) as told:
        judge.require_able()
    assert "a.jpg" not in str(told.value)
    assert "d.jpg" not in str(told.value)
    for name in ("b.jpg", "c.png"):
        (tmp_path / name).write_bytes(whole)
    judge.require_able()
