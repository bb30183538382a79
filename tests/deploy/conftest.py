"""What the images say: their stages' commands, and the command line that Triton gets of them."""

import json
import os
import re
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


def run_here(command: list[str]) -> list[str]:
    """The same command with this checkout for the image's /app."""
    return [part.replace("/app/", f"{ROOT}/") for part in command]


def base_environment() -> dict[str, str]:
    """An environment in which `python3` is this one, and nothing of Tritouch is set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRITOUCH_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def arguments(stage: str, program: str, folder: Path, variables: Mapping[str, str]) -> list[str]:
    """What the command of a container gives `program`, in whose place there is one in `folder` that prints it."""
    stand_in = folder / "bin" / program
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    stand_in.chmod(0o755)
    env = base_environment() | variables
    env["PATH"] = f"{stand_in.parent}:{env['PATH']}"
    command = run_here(dockerfile_commands()[stage])
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def triton_flags(tmp_path: Path) -> Callable[..., list[str]]:
    """The arguments of Triton in a container with these variables."""
    own = {"TRITOUCH_REPOSITORY": "/models", "ENGINES": "openvino"}
    return lambda **variables: arguments("triton", "tritonserver", tmp_path, own | variables)


@pytest.fixture
def export_flags(tmp_path: Path) -> Callable[..., list[str]]:
    """The arguments of `python3` in the export's container with these variables."""
    own = {"TRITOUCH_REPOSITORY": "/models", "TRITOUCH_MODEL": "owner/name", "TRITOUCH_ENGINE": "openvino"}
    return lambda **variables: arguments("export", "python3", tmp_path, own | variables)
