"""Serves the model repository in Triton's image, once its engines are known to be made for this GPU and TensorRT.

Becomes Triton's supervisor, in the working directory that it is started in: an empty one, because Python models find
modules there before any other. The container ends when a process that Triton needs has died, and Docker starts it anew;
it would leave a container running that is unhealthy. With several GPUs each has a Triton of its own, at ports of its
own, which is started anew by itself. `--check` says whether it could be served, and starts nothing.
"""

import math
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

HEALTH = "tritouch-health"
"""File of temporary ones that names where each Triton says whether it is ready; read by `healthy.py`."""
REPLICAS = "TRITOUCH_TRITON_REPLICAS"
MOST_PORT = 65535
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
EDIT_SECONDS = 300.0
"""How long edits in flight may take to finish, unless TRITOUCH_EDIT_TIMEOUT_SECONDS says; Docker waits longer."""
MOST_SECONDS = 86_400
"""As in the gateway."""


def number(name: str, default: int) -> int:
    """A whole number from the environment, where empty is not set. Ends the program when it is none."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        sys.exit(f"{name} is {text!r}, and must be a whole number")
    return int(text)


def port(name: str, default: int, more: int) -> int:
    """A port, so many after that of the environment. Ends the program when there is none such."""
    found = number(name, default) + more
    if not 1 <= found <= MOST_PORT:
        sys.exit(f"{name}: port {found} is none: ports are 1 to {MOST_PORT}")
    return found


def seconds(name: str, default: float) -> float:
    """Seconds from the environment, where empty is not set. Ends the program when they are none."""
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= MOST_SECONDS:
        sys.exit(f"{name} is {text!r}, and must be seconds, more than 0 and at most {MOST_SECONDS}")
    return value


def judged(env: Mapping[str, str]) -> dict[str, float]:
    """The numbers that Triton or its models read of `env`. Ends the program when one is wrong."""
    from embedded import triton_settings  # noqa: PLC0415

    try:
        return triton_settings.judged(env)
    except ValueError as error:
        sys.exit(str(error))


def of_triton() -> dict[str, int]:
    """The sizes that Triton is started with. Ends the program when something that it or its models read is wrong."""
    from embedded import command  # noqa: PLC0415

    found = judged(os.environ)
    defaults = {
        "TRITOUCH_TRITON_CACHE_BYTES": command.CACHE_BYTES,
        "TRITOUCH_TRITON_SHM_BYTES": command.SHM_BYTES,
    }
    return {name: int(found.get(name, default)) for name, default in defaults.items()}


def supervised_triton(repository: Path, sizes: Mapping[str, int], place: int) -> list[str]:
    """The program and arguments of the supervisor of one Triton, `place` of them (from 0), Triton's among them.

    Ends the program when a setting is wrong.
    """
    from embedded import command, shared_memory  # noqa: PLC0415
    from gateway.collector import DELAY, traces_url  # noqa: PLC0415

    try:
        traces = traces_url(os.environ)
    except ValueError as error:
        sys.exit(str(error))
    exit_seconds = math.ceil(seconds("TRITOUCH_EDIT_TIMEOUT_SECONDS", EDIT_SECONDS))
    more, prefix = command.PORTS_APART * place, shared_memory.new_prefix()
    options = command.TritonOptions(
        "tritonserver",
        repository,
        "0.0.0.0",  # noqa: S104 - the container's networks decide who may call
        command.TritonPorts(
            port("TRITOUCH_TRITON_HTTP_PORT", 8000, more),
            port("TRITOUCH_TRITON_GRPC_PORT", 8001, more),
            port("TRITOUCH_TRITON_METRICS_PORT", 8002, more),
        ),
        exit_seconds,
        cache_bytes=sizes["TRITOUCH_TRITON_CACHE_BYTES"],
        shm_bytes=sizes["TRITOUCH_TRITON_SHM_BYTES"],
        shm_prefix=prefix,
        traces_url=traces,
        traces_delay=os.environ.get(DELAY, ""),
    )
    stop_file = Path(tempfile.gettempdir(), f"tritouch-stop-{os.getpid()}-{place}")
    return command.supervised(
        command.command_line(options),
        exit_seconds + command.END_SECONDS,
        *("--shm", prefix, "--watch", command.PYTHON_PROCESS, "--stop-file", str(stop_file)),
    )


def require_servable(repository: Path) -> list[str | None]:
    """The GPU of each Triton that is to serve, None where there are none.

    Ends with exit code 2 where nothing is installed, or its engines cannot be served here, each reason a line.
    """
    from backends import compatibility, gpu  # noqa: PLC0415

    if not (repository / "edit" / "config.pbtxt").exists():
        sys.stderr.write(f"nothing is installed in {repository}: no export has succeeded yet, and its log says why\n")
        sys.exit(2)
    try:
        chosen = gpu.chosen(os.environ.get("TRITOUCH_GPUS") or gpu.ALL)
    except ValueError as error:
        sys.stderr.write(f"TRITOUCH_GPUS: {error}\n")
        sys.exit(2)
    served = [str(repository), "--served", os.environ["ENGINES"]]
    if compatibility.main(served, lambda: next(iter(chosen), None)):
        sys.exit(2)
    devices: list[str | None] = [one.uuid for one in chosen]
    replicas = judged({REPLICAS: os.environ.get(REPLICAS, "")}).get(REPLICAS, 1)
    return [device for device in devices or [None] for _ in range(int(replicas))]


def say_where(servers: int) -> None:
    """Leave the addresses of all of them to the container's health check."""
    first = number("TRITOUCH_TRITON_HTTP_PORT", 8000)
    from embedded.command import PORTS_APART  # noqa: PLC0415

    urls = [f"http://127.0.0.1:{first + PORTS_APART * place}/v2/health/ready\n" for place in range(servers)]
    Path(tempfile.gettempdir(), HEALTH).write_text("".join(urls), "utf-8")


def serve(lines: Sequence[list[str]], devices: Sequence[str | None]) -> int:
    """Become the supervisor of the one Triton or, of several, run one for each GPU. Returns the exit code."""
    from embedded.several import Several  # noqa: PLC0415

    each = [os.environ | ({"CUDA_VISIBLE_DEVICES": device} if device else {}) for device in devices]
    if len(lines) == 1:
        # What comes while the supervisor is not ready for them waits until it is.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        os.execve(lines[0][0], lines[0], each[0])  # noqa: S606 - in this process's place: Docker's signals reach it
    return Several({f"Triton {place}": pair for place, pair in enumerate(zip(lines, each, strict=True))}).run()


def end_when_asked() -> None:
    """Have a stop end this process: the first one of a container gets no signal that it has not asked for, and Docker
    would wait for as long as an edit may take."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def main() -> int:
    """Serves, unless `--check` asks for no more than exit code 2 where nothing can be served here."""
    end_when_asked()
    # What is needed lies beside this script's folder, which alone Python would search. Triton inherits none of it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from embedded import memory, shared_memory  # noqa: PLC0415

    repository = Path(os.environ["TRITOUCH_REPOSITORY"])
    devices = require_servable(repository)
    if sys.argv[1:] == ["--check"]:
        return 0
    sizes = of_triton()
    # Of a pod's container that was killed: a pod's shared memory outlives its containers.
    shared_memory.remove_stale_shm()
    missing = memory.shared_memory_missing(repository, sizes["TRITOUCH_TRITON_SHM_BYTES"], len(devices))
    if missing:
        sys.exit(missing)
    short = memory.memory_short(repository, len(devices))
    if short:
        sys.stderr.write(f"{short}\n")
    say_where(len(devices))
    return serve([supervised_triton(repository, sizes, place) for place in range(len(devices))], devices)


if __name__ == "__main__":
    sys.exit(main())
