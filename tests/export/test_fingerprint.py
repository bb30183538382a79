"""What an engine's fingerprint is over: no file of what builds it can slip through, and nothing else counts."""

import shutil
from pathlib import Path

import pytest

from export.component import fingerprint
from tests.conftest import ROOT
from tests.export.simple import SIMPLE

FAMILY = "instruct_pix2pix"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code that makes engines."""
    for folder in ("export", "families"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    return tmp_path


def digest(**changed: object) -> str:
    given = {"component": SIMPLE, "family": FAMILY, "files": [], "engine": {"kind": "openvino"}, "precision": "fp32"}
    return fingerprint.of_component(**{**given, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        (f"families/{FAMILY}/new.py", True),
        (f"families/{FAMILY}/conditioning.py", True),
        ("families/parts/new.py", True),
        ("families/new.py", True),
        ("export/component/new.py", True),
        ("export/engines/new.py", True),
        ("families/sdxl_instruct_pix2pix/table.py", False),
        ("families/sdxl_instruct_pix2pix/new.py", False),
        ("export/report.py", False),
        ("export/new.py", False),
    ],
)
def test_the_code_that_builds_an_engine_counts_whole(root: Path, file: str, counts: bool) -> None:
    before = digest()
    with (root / file).open("a") as source:
        source.write("# changed\n")
    assert (digest() != before) == counts


def test_settings_and_weights_count(root: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"one")
    made = [digest(), digest(precision="bf16"), digest(engine={"kind": "tensorrt"}), digest(files=[weights])]
    weights.write_bytes(b"two")
    made += [digest(files=[weights]), digest(adapters=["oil"])]
    assert len(set(made)) == len(made)
    assert digest() == made[0]
