"""The README's calls, run as a reader runs them: with bash, and with a photo that no command line could hold."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.server.asking import Client

README = (ROOT / "README.md").read_text("utf-8")
CALLS = [block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "curl" in block]
KINDS = {".jpg": "JPEG", ".png": "PNG"}
ADDRESS = "http://localhost:8000"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG of noise, of more than 2 MB."""
    file = tmp_path_factory.mktemp("photo") / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), np.uint8)
    Image.fromarray(noise).save(file, quality=95)
    assert file.stat().st_size > 2_000_000
    return file


def test_there_is_a_call_for_each_kind_of_client() -> None:
    assert README.count("curl ") == sum(block.count("curl ") for block in CALLS), "every call is in a block that is run"
    assert ["application/json" in block for block in CALLS] == [True, False]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("block", CALLS, ids=["json", "form"])
def test_a_call_gives_a_picture(client: Client, photo: Path, block: str, tmp_path: Path) -> None:
    assert ADDRESS in block
    (tmp_path / "photo.jpg").symlink_to(photo)
    command = ["bash", "-euo", "pipefail", "-c", block.replace(ADDRESS, client.server.http_url)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    (written,) = set(tmp_path.iterdir()) - {tmp_path / "photo.jpg"}
    with Image.open(written) as picture:
        assert picture.format == KINDS[written.suffix]
        assert picture.size == (295, 221), "1600 x 1200 within 256 x 256 pixels, to the pixel"
