"""Several Tritons in the container, as there are with several GPUs: one is killed, and nobody notices."""

import re
from collections.abc import Iterator

import pytest

from tests.containers.engine import eventually
from tests.containers.load import load
from tests.containers.stack import Stack

UP = ("up", "--no-build", "--detach", "--wait", "--wait-timeout=900", "gateway-cpu")
SERVERS = """
import os, pathlib, signal
programs = {p.parent.name: p.read_bytes().split(b"\\0")[0] for p in pathlib.Path("/proc").glob("[0-9]*/cmdline")}
servers = sorted(int(pid) for pid, program in programs.items() if program.endswith(b"tritonserver"))
"""
COUNT = f"{SERVERS}print(len(servers))"
KILL = f"{SERVERS}os.kill(servers[0], signal.SIGKILL)\nprint(len(servers))"
METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())"
READY = 'tritouch_gateway_triton_ready{model="base",triton="'


@pytest.fixture
def two(serving: Stack) -> Iterator[Stack]:
    """The stack with two Tritons in its container; afterwards as it was."""
    serving.set(TRITOUCH_TRITON_REPLICAS="2")
    serving.compose(*UP)
    yield serving
    serving.set()
    serving.compose(*UP)


def ready(stack: Stack) -> list[str]:
    """What the gateway says of each Triton that it has seen."""
    lines = stack.python("gateway-cpu", METRICS).splitlines()
    return [line.rpartition(" ")[2] for line in lines if line.startswith(READY)]


def test_one_of_two_is_killed_and_every_edit_is_answered(two: Stack) -> None:
    eventually(lambda: ready(two) == ["1.0", "1.0"], "the gateway does not find both")
    with load(two) as answers:
        assert two.python("triton-cpu", KILL) == "2"
        eventually(lambda: sorted(ready(two)) == ["0.0", "1.0"], "it is not left out")
        assert two.inspect("triton-cpu")["State"]["Health"]["Status"] == "healthy"
        eventually(lambda: ready(two) == ["1.0", "1.0"], "it is not taken back")
    assert {answer.status for answer in answers} == {200}
    assert two.inspect("triton-cpu")["RestartCount"] == 0
    assert two.python("triton-cpu", COUNT) == "2"
    # Their numbers are not in the order of their process ids.
    assert re.search(r"Triton [01] ended with exit code 137: started again in 0 s", two.compose("logs", "triton-cpu"))
