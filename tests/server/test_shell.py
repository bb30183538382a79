"""The client as people install it: a wheel, in an environment of its own; its pages' commands, before Triton."""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.server.asking import Client

pytestmark = pytest.mark.slow
README = (ROOT / "README.md").read_text("utf-8")
PAGE = (ROOT / "docs" / "client.md").read_text("utf-8")


def commands(text: str) -> list[str]:
    """The command lines of indented blocks that call the client. `serve` is tested elsewhere: it does not end."""
    lines = re.findall(r"^    (tritouch .*)$", text, re.MULTILINE)
    return [line for line in lines if line != "tritouch serve"]


def run(command: list[str], **more: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, for setuptools leaves its pieces beside the source."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for file in [
        *(ROOT / "tritouch").glob("*.py"),
        *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")),
    ]:
        copy = source / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run([*build, "--no-build-isolation", "--wheel-dir", str(folder), str(source)])
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The variables of a shell in an environment that has the wheel, what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    python, pins = str(folder / "bin" / "python"), str(ROOT / "requirements" / "cpu.lock")
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, "--constraint", pins]
    run([*install, str(wheel)])
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TRITOUCH"))}
    return own | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONWARNINGS": "error"}


def test_the_wheel_holds_the_client_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {str(path.relative_to(ROOT)) for path in (ROOT / "tritouch").glob("*.py")}


def test_it_brings_nothing_of_the_other_rooms(environment: Mapping[str, str], tmp_path: Path) -> None:
    code = "import importlib.util as u, tritouch.cli; print([n for n in %r if u.find_spec(n)])"
    others = ["torch", "numpy", "tritonclient", "grpc", "fastapi", "gateway", "families", "embedded"]
    assert run(["python", "-c", code % others], cwd=tmp_path, env=environment) == "[]\n"


def test_there_are_commands_to_run() -> None:
    section = README.split("## From the shell")[1].split("\n## ")[0]
    assert "`pip install .`" in section
    assert len(commands(section)) == section.count("    tritouch ") >= 2
    assert set(commands(README)) <= set(commands(PAGE))
    assert {command.split()[1] for command in commands(PAGE)} == {"edit", "models", "status"}


@pytest.mark.parametrize("command", commands(PAGE))
def test_a_command_works(client: Client, environment: Mapping[str, str], command: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/one.jpg", "photos/two.png"):
        Image.new("RGB", (96, 64), (200, 30, 60)).save(tmp_path / name)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    shell = ["bash", "-euo", "pipefail", "-c", command]
    run(shell, cwd=tmp_path, env=environment | {"TRITOUCH_URL": client.server.http_url or ""})
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    expected = {"-o night.jpg": ["night.jpg"], "--out-dir": ["one.jpg", "two.png"], "> night.png": ["night.png"]}
    names = next((files for words, files in expected.items() if words in command), [])
    assert sorted(path.name for path in written) == names
    for path in written:
        with Image.open(path) as picture:
            assert (picture.format, picture.size) == ({".jpg": "JPEG", ".png": "PNG"}[path.suffix], (96, 64))
