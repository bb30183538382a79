"""What this user may not read is named in one line, with what to do."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.adapters import find as find_adapters
from export.errors import BadInputError
from export.readable import require_readable

OTHER = 1000


@pytest.fixture
def folder() -> Iterator[Path]:
    """A checkpoint's folder, looked at by someone who is not root. Not below pytest's, which is closed to others."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as outer:
        model = Path(outer, "model")
        (model / "unet").mkdir(parents=True)
        for name in ("model_index.json", "unet/config.json"):
            (model / name).touch()
        (model / "gone").symlink_to("nowhere")
        Path(outer).chmod(0o755)
        os.seteuid(OTHER if user == 0 else user)
        try:
            yield model
        finally:
            os.seteuid(user)
            Path(outer).chmod(0o755)
            model.chmod(0o755)
            (model / "unet").chmod(0o755)


def close(path: Path) -> None:
    """Takes all rights from a path, as its owner."""
    user = os.geteuid()
    os.seteuid(os.getuid())
    path.chmod(0)
    os.seteuid(user)


def test_what_is_open_or_missing_is_left_be(folder: Path) -> None:
    require_readable(folder)
    require_readable(folder / "unet" / "config.json")
    require_readable(folder / "missing")
    require_readable(Path("owner/name"))


@pytest.mark.parametrize(
    ("closed", "named"),
    [("..", "."), (".", "."), ("unet", "unet"), ("unet/config.json", "unet/config.json")],
)
def test_what_is_closed_is_named(folder: Path, closed: str, named: str) -> None:
    close((folder / closed).resolve())
    said = f"{folder / named} must be readable by uid {os.geteuid()}: chmod -R a+rX {folder}"
    with pytest.raises(BadInputError, match=f"^{re.escape(said)}$"):
        require_readable(folder)


def test_an_adapter_that_is_closed_is_named(folder: Path) -> None:
    close(folder)
    with pytest.raises(BadInputError, match="must be readable by uid"):
        find_adapters([f"oil={folder}"], ())
