"""What the images say: their stages' commands, and the command line that Triton gets of them."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"


def dockerfile_commands() -> dict[str, list[str]]:
    """Stage or image -> its command."""
    commands = {}
    for name in ("triton", "gateway"):
        stage = name
        for line in (DEPLOY / f"{name}.Dockerfile").read_text().splitlines():
            stage = match[1] if (match := re.match(r"FROM \S+ AS (\S+)", line)) else stage
            if line.startswith("CMD "):
                commands[stage] = json.loads(line.removeprefix("CMD "))
    return commands


def dockerfile_engines() -> dict[str, str]:
    """Stage of Triton's image -> the engine kinds that it serves."""
    engines, stage = {}, ""
    for line in (DEPLOY / "triton.Dockerfile").read_text().splitlines():
        stage = match[1] if (match := re.match(r"FROM \S+ AS (\S+)", line)) else stage
        if match := re.match(r"ENV ENGINES=(\S+)", line):
            engines[stage] = match[1]
    return engines


def run_here(command: list[str], app: Path = ROOT) -> list[str]:
    """The same command with this checkout, or another folder, for the image's /app."""
    return [part.replace("/app/", f"{app}/") for part in command]


def copy_image(folder: Path) -> Path:
    """The files that the first stage of Triton's image is given, and no others; returns its /app, in `folder`."""
    stage = (DEPLOY / "triton.Dockerfile").read_text().partition("FROM triton AS")[0]
    for sources, target in re.findall(r"^COPY --chmod=755 (.+) /(app/\S+)$", stage, re.MULTILINE):
        (folder / target).mkdir(parents=True, exist_ok=True)
        for source in sources.split():
            shutil.copy(ROOT / source, folder / target)
    return folder / "app"


def base_environment() -> dict[str, str]:
    """An environment in which `python3` is this one, and nothing of Tritouch is set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRITOUCH_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def arguments(command: list[str], program: str, folder: Path, variables: Mapping[str, str]) -> list[str]:
    """What a command gives `program`, in whose place there is one in `folder` that prints it."""
    stand_in = folder / "bin" / program
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    stand_in.chmod(0o755)
    env = base_environment() | variables
    env["PATH"] = f"{stand_in.parent}:{env['PATH']}"
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\0")[:-1]


def healthy(url: str) -> bool:
    return subprocess.run([sys.executable, str(DEPLOY / "healthy.py"), url], check=False).returncode == 0


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a container whose repository, in `tmp_path`, is installed as far as one can see."""
    (tmp_path / "edit").mkdir()
    (tmp_path / "edit" / "config.pbtxt").touch()
    return {"TRITOUCH_REPOSITORY": str(tmp_path), "ENGINES": "openvino"}


@pytest.fixture
def triton_flags(installed: dict[str, str], tmp_path: Path) -> Callable[..., list[str]]:
    """The arguments of Triton in a container with these variables; run on the files of the image alone."""
    command = run_here(dockerfile_commands()["triton"], copy_image(tmp_path))
    return lambda **variables: arguments(command, "tritonserver", tmp_path, installed | variables)


@pytest.fixture
def export_flags(tmp_path: Path) -> Callable[..., list[str]]:
    """The arguments of `python3` in the export's container with these variables."""
    own = {"TRITOUCH_REPOSITORY": "/models", "TRITOUCH_MODEL": "owner/name", "TRITOUCH_ENGINE": "openvino"}
    command = run_here(dockerfile_commands()["export"])
    return lambda **variables: arguments(command, "python3", tmp_path, own | variables)
