"""What the images say: their stages' commands, and the command line that Triton gets of them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
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


@pytest.fixture
def triton_flags(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs the command of Triton's container, in an environment with these variables, on a `tritonserver` that prints.

    Returns the arguments that it was given.
    """
    program = tmp_path / "bin" / "tritonserver"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)

    def run(**variables: str) -> list[str]:
        env = base_environment() | {"TRITOUCH_REPOSITORY": "/models", "ENGINES": "openvino"} | variables
        env["PATH"] = f"{program.parent}:{env['PATH']}"
        command = run_here(dockerfile_commands()["triton"])
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run
