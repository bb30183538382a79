"""Serves the model repository in Triton's image, once its engines are known to be made for this GPU and TensorRT.

Becomes Triton's supervisor, in the working directory that it is started in: an empty one, because Python models find
modules there before any other. The container ends when a process that Triton needs has died, and Docker starts it anew;
it would leave a container running that is unhealthy. `--check` says whether it could be served, and starts nothing.
"""

import math
import os
import sys
import tempfile
from pathlib import Path

EDIT_SECONDS = 300.0
"""How long edits in flight may take to finish, unless TRITOUCH_EDIT_TIMEOUT_SECONDS says; Docker waits longer."""


def number(name: str, default: int) -> int:
    """A whole number from the environment, where empty is not set. Ends the program when it is none."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        sys.exit(f"{name} is {text!r}, and must be a whole number")
    return int(text)


def seconds(name: str, default: float) -> float:
    """Seconds from the environment, where empty is not set. Ends the program when they are none."""
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        sys.exit(f"{name} is {text!r}, and must be seconds, more than 0")
    return value


def supervised_triton(repository: Path, shm_bytes: int) -> list[str]:
    """The supervisor's program and arguments, Triton's among them. Ends the program when a setting is wrong."""
    from embedded import command  # noqa: PLC0415
    from gateway.collector import DELAY, traces_url  # noqa: PLC0415

    try:
        traces = traces_url(os.environ)
    except ValueError as error:
        sys.exit(str(error))
    exit_seconds = math.ceil(seconds("TRITOUCH_EDIT_TIMEOUT_SECONDS", EDIT_SECONDS))
    options = command.TritonOptions(
        "tritonserver",
        repository,
        "0.0.0.0",  # noqa: S104 - the container's networks decide who may call
        command.TritonPorts(
            number("TRITOUCH_TRITON_HTTP_PORT", 8000),
            number("TRITOUCH_TRITON_GRPC_PORT", 8001),
            number("TRITOUCH_TRITON_METRICS_PORT", 8002),
        ),
        exit_seconds,
        cache_bytes=number("TRITOUCH_TRITON_CACHE_BYTES", command.CACHE_BYTES),
        shm_bytes=shm_bytes,
        traces_url=traces,
        traces_delay=os.environ.get(DELAY, ""),
    )
    stop_file = Path(tempfile.gettempdir(), f"tritouch-stop-{os.getpid()}")
    return command.supervised(
        command.command_line(options),
        exit_seconds + command.END_SECONDS,
        *("--watch", command.PYTHON_PROCESS, "--stop-file", str(stop_file)),
    )


def require_servable(repository: Path) -> None:
    """Ends with exit code 2 where nothing is installed, or its engines cannot be served here, each reason a line."""
    from backends import compatibility  # noqa: PLC0415

    if not (repository / "edit" / "config.pbtxt").exists():
        sys.stderr.write(f"nothing is installed in {repository}: no export has succeeded yet, and its log says why\n")
        sys.exit(2)
    if compatibility.main([str(repository), "--served", os.environ["ENGINES"]]):
        sys.exit(2)


def main() -> None:
    """Becomes the supervisor, unless `--check` asks for no more than exit code 2 where nothing can be served here."""
    # What is needed lies beside this script's folder, which alone Python would search. Triton inherits none of it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from embedded import command, memory  # noqa: PLC0415

    repository = Path(os.environ["TRITOUCH_REPOSITORY"])
    require_servable(repository)
    if sys.argv[1:] == ["--check"]:
        return
    shm_bytes = number("TRITOUCH_TRITON_SHM_BYTES", command.SHM_BYTES)
    missing = memory.shared_memory_missing(repository, shm_bytes)
    if missing:
        sys.exit(missing)
    short = memory.memory_short(repository)
    if short:
        sys.stderr.write(f"{short}\n")
    line = supervised_triton(repository, shm_bytes)
    os.execv(line[0], line)  # noqa: S606 - in this process's place, so that Docker's signals reach it


if __name__ == "__main__":
    main()
