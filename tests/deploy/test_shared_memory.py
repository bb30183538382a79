"""What a container of Triton's leaves in shared memory, whose pod has it longer than the container: nothing."""

import os
import re
import subprocess
from pathlib import Path

from embedded.shared_memory import SHM, hold_shm, new_prefix

from .conftest import base_environment, copy_image, dockerfile_commands, run_here

# Triton with a region of shared memory, which it names, and is killed.
KILLED = """#!/bin/sh
for flag; do case $flag in *,shm-region-prefix-name=*) region=/dev/shm/${flag##*=}region; esac; done
echo region > "$region"
echo "$region"
kill -KILL $$
"""


def test_nothing_of_a_triton_that_is_killed_stays_in_shared_memory(installed, tmp_path):
    """In a pod it would stay there until the pod goes, and each further one would have less room."""
    stand_in = tmp_path / "bin" / "tritonserver"
    stand_in.parent.mkdir()
    stand_in.write_text(KILLED)
    stand_in.chmod(0o755)
    env = base_environment() | installed
    env["PATH"] = f"{stand_in.parent}:{env['PATH']}"
    command = run_here(dockerfile_commands()["triton"], copy_image(tmp_path))
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (137, "")
    assert re.fullmatch(r"/dev/shm/tritouch-[0-9a-f]{12}-region\n", done.stdout)
    assert not list(SHM.glob(Path(done.stdout).name.removesuffix("region\n") + "*"))


def test_what_a_killed_container_left_in_shared_memory_goes_before_room_is_asked_for(installed, tmp_path):
    (tmp_path / "edit" / "config.pbtxt").write_text('backend: "python"')
    left = new_prefix()
    os.close(hold_shm(left))
    (SHM / f"{left}region").touch()
    env = base_environment() | installed | {"TRITOUCH_TRITON_SHM_BYTES": str(1 << 40)}
    done = subprocess.run(
        run_here(dockerfile_commands()["triton"]), env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("/dev/shm has ")
    assert not list(SHM.glob(f"{left}*"))
