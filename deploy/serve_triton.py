"""Serves the model repository in Triton's image, once its engines are known to be made for this GPU and TensorRT.

Becomes Triton itself, in the working directory that it is started in: an empty one, because Python models find modules
there before any other.
"""

import os
import sys
from pathlib import Path

EXIT_SECONDS = 30
"""How long edits in flight may take to finish; Docker waits longer before it kills."""


def number(name: str, default: int) -> int:
    """A whole number from the environment, where empty is not set. Ends the program when it is none."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        sys.exit(f"{name} is {text!r}, and must be a whole number")
    return int(text)


def main() -> None:
    """Becomes Triton. Ends with exit code 2 where the engines cannot be served here, each reason being a line."""
    # What is needed lies beside this script's folder, which alone Python would search. Triton inherits none of it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from backends import compatibility  # noqa: PLC0415
    from embedded.command import CACHE_BYTES, SHM_BYTES, TritonOptions, TritonPorts, command_line  # noqa: PLC0415

    repository = os.environ["TRITOUCH_REPOSITORY"]
    if compatibility.main([repository, "--served", os.environ["ENGINES"]]):
        sys.exit(2)
    options = TritonOptions(
        "tritonserver",
        Path(repository),
        "0.0.0.0",  # noqa: S104 - the container's networks decide who may call
        TritonPorts(
            number("TRITOUCH_TRITON_HTTP_PORT", 8000),
            number("TRITOUCH_TRITON_GRPC_PORT", 8001),
            number("TRITOUCH_TRITON_METRICS_PORT", 8002),
        ),
        EXIT_SECONDS,
        cache_bytes=number("TRITOUCH_TRITON_CACHE_BYTES", CACHE_BYTES),
        shm_bytes=number("TRITOUCH_TRITON_SHM_BYTES", SHM_BYTES),
    )
    command = command_line(options)
    os.execvp(command[0], command)  # noqa: S606 - in this process's place, so that Docker's signals reach it


if __name__ == "__main__":
    main()
