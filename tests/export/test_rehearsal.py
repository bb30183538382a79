"""The edits that narrow engines are calibrated on: what a folder must hold, and what is held out."""

from pathlib import Path

import pytest

from export.errors import BadInputError
from export.rehearsal import OWN, requests
from tests.families.alone import settings_of


def test_own_pictures_are_split_and_meet_many_timesteps(checkpoint: Path) -> None:
    asked, held = requests(OWN, settings_of("instruct_pix2pix", checkpoint))
    assert (len(asked), len(held)) == (6, 3)
    assert not {one.image for one in asked} & {one.image for one in held}
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
