"""What `make` says on machines that have no Python that fits. Nothing is installed: it ends before that."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def make_setup(folder: Path, *tools: Path) -> subprocess.CompletedProcess[str]:
    """`make setup` in a copy, of all programs with a shell, make and `tools` alone."""
    (folder / "bin").mkdir()
    for tool in (*(Path(str(shutil.which(name))) for name in ("make", "sh")), *tools):
        (folder / "bin" / tool.name).symlink_to(tool)
    for name in ("Makefile", "requirements/cpu.lock", "requirements/tools.lock"):
        copy = folder / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    variables = {"PATH": str(folder / "bin"), "HOME": str(folder), "UV_OFFLINE": "1"}
    return subprocess.run(["make", "setup"], cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("tools", "command"),
    [([], "curl -LsSf https://astral.sh/uv/install.sh | sh"), (["uv"], "uv python install 3.12")],
    ids=["without uv", "with uv, without a network"],
)
def test_a_machine_without_a_fitting_python_is_told_the_one_command(tmp_path, tools, command):
    done = make_setup(tmp_path, *(Path(sys.prefix) / "bin" / tool for tool in tools))
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines() if line.startswith("Python 3.11 or 3.12 with venv is needed.")]
    assert len(told) == 1
    assert told[0].endswith(f": {command}")
    assert not (tmp_path / ".venv").exists()
