"""The edits that narrow engines are calibrated on: what a folder must hold, and what is held out."""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import tiles
from export.checkpoint import find
from export.component.build import Make
from export.engines import load as load_engine
from export.errors import BadInputError
from export.likeness import Likeness
from export.quality import Judge
from export.rehearsal import OWN, Engines, Rehearsal, Request, requests
from export.release import SCHEDULER
from export.trial import Trial
from families import PIPELINES, load
from families.interface import Limits
from families.schedules import NoiseSchedules
from tests.families import tiny
from tests.families.alone import LIMITS, edited, settings_of
from tests.families.alone import Engines as Served


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


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(set(PIPELINES.values())))
def test_its_edits_are_those_that_are_served(family: str) -> None:
    checkpoint, picture = tiny.checkpoint(family), OWN / "3-cat.jpg"
    settings = settings_of(family, checkpoint)
    found = find(str(checkpoint), None)
    if "shift" in NoiseSchedules(checkpoint / SCHEDULER, found.scheduler).config:
        settings = replace(settings, shift=5.0)
    served = Served(family)
    table = load(family, "table").components(checkpoint, LIMITS)
    runs = {one.name: partial(served, one.name) for one in table}
    request = Request(picture, "make it night", 3, 1)
    (made,) = Rehearsal(found, settings).edits([request], Engines(table, runs))
    assert np.array_equal(made, edited(family, request.tensors(), settings))


def test_what_holds_a_part_of_a_picture_meets_tiles_of_it(checkpoint: Path) -> None:
    whole, part = (load("instruct_pix2pix", "table").components(checkpoint, Limits(side**2, 8)) for side in (512, 128))
    table, met = tiles.tiled(whole, part), list[tuple[str, tuple[int, ...]]]()
    doubled = {"vae_decoder": lambda given: {"pixels": given["latents"].repeat(2, 2)}}
    engines = Engines(table, doubled, lambda model, given: met.append((model, given["latents"].shape)))
    latents = np.random.default_rng(0).random((1, 4, 40, 24), np.float32)
    made = engines("vae_decoder", {"latents": latents})["pixels"]
    assert np.allclose(made, latents.repeat(2, 2), atol=1e-6)
    largest = next(one.ranges for one in part if one.name == "vae_decoder")
    assert len(met) > 1
    assert all(model == "vae_decoder" and height <= largest["latent_height"].max for model, (_, _, height, _) in met)
    assert all(height * width <= largest["latent_height"].opt ** 2 for _, (_, _, height, width) in met)


@pytest.mark.parametrize(
    "changed", [{"num_inference_steps": 8}, {"guidance_scale": 3.0}, {"image_guidance_scale": 3.0}, {"shift": 3.0}]
)
def test_what_other_edits_were_like_is_not_known(checkpoint: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    nothing: Any = None
    settings, found = settings_of("instruct_pix2pix", checkpoint), find(str(checkpoint), None)
    trial = Trial(Rehearsal(found, settings), (), nothing, (), OWN)
    other = replace(trial, rehearsal=Rehearsal(found, replace(settings, **changed)))
    ours, again, theirs = (
        Judge((), one, load_engine("openvino", []), tmp_path, tmp_path)._known() for one in (trial, trial, other)
    )
    ours.write(Likeness((40.0,), (0.99,)))
    assert again.read() == Likeness((40.0,), (0.99,))
    assert theirs.read() is None


def test_what_no_edit_meets_cannot_be_calibrated(tmp_path: Path, checkpoint: Path) -> None:
    table = load("instruct_pix2pix", "table").components(checkpoint, LIMITS)
    bank: Any = None
    trial = Trial(
        Rehearsal(find(str(checkpoint), None), settings_of("instruct_pix2pix", checkpoint)), table, bank, (), OWN
    )
    beside = replace(table[-1], name="preview_decoder")
    judge = Judge([Make(beside, "int8", "")], trial, load_engine("openvino", []), tmp_path, tmp_path)
    with pytest.raises(BadInputError, match=r"--precision int8: preview_decoder takes no part in the edits"):
        judge.require_able()
    replace(judge, makes=[Make(beside, "w8", "")]).require_able()


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
