"""`docker compose up gateway-cpu`, as callers find it and as those who attack it do."""

import base64
import socket
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from PIL import Image

from embedded.command import PYTHON_PROCESS
from tests.containers.engine import OUTSIDE, eventually
from tests.containers.stack import Stack
from tests.server.asking import colours, png

PICTURE = colours(128, 96)
SERVICES = ("gateway-cpu", "triton-cpu")
STATUS = "print(open('/proc/1/status').read())"
CONNECT = f"import socket; socket.create_connection(('{OUTSIDE}', {{port}}), 5); print('reached')"
TRY = "try: {what}\nexcept OSError as error: print(type(error).__name__, error.errno)"
KILL = f"""
import os, pathlib, signal
programs = {{p.parent.name: p.read_bytes().split(b"\\0")[0] for p in pathlib.Path("/proc").glob("[0-9]*/cmdline")}}
stubs = [int(pid) for pid, program in programs.items() if program.endswith(b"{PYTHON_PROCESS}")]
os.kill(stubs[-1], signal.SIGKILL)
print(len(stubs))
"""


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of the machine that whoever has a way out reaches."""
    with socket.create_server((OUTSIDE, 0)) as server:
        yield server.getsockname()[1]  # whoever connects is let in by the kernel


def test_edits_are_answered_through_the_published_port(serving: Stack) -> None:
    first, again = (serving.edit(PICTURE) for _ in range(2))
    assert (first.status, first.body["width"], first.body["height"]) == (200, 128, 96)
    assert first.body["image"] == again.body["image"]
    assert serving.edit(PICTURE, num_inference_steps=51).status == 422


def test_an_adapter_is_a_route(serving: Stack) -> None:
    offered = [model["id"] for model in serving.ask("/v1/models").body["data"]]
    assert {"oil", "ink"} <= set(offered)
    answers = {route: serving.edit(PICTURE, model=route) for route in (None, "oil", "oil:0.5+ink")}
    assert [answer.status for answer in answers.values()] == [200, 200, 200]
    assert len({answer.body["image"] for answer in answers.values()}) == 3
    assert serving.edit(PICTURE, model="chalk").status == 422


def test_triton_answers_grpc_on_loopback_where_the_profile_asks_for_it(serving: Stack) -> None:
    serving.compose("--profile", "grpc", "up", "--detach", "grpc")
    values = {"image": (png(PICTURE), "BYTES"), "prompt": (b"make it red", "BYTES"), "seed": (np.uint64(1), "UINT64")}
    inputs = [triton_grpc.InferInput(name, [1], kind) for name, (_, kind) in values.items()]
    for tensor, (value, kind) in zip(inputs, values.values(), strict=True):
        tensor.set_data_from_numpy(np.array([value], object if kind == "BYTES" else np.uint64))
    with triton_grpc.InferenceServerClient("127.0.0.1:8001") as triton:
        eventually(lambda: _live(triton), "gRPC is not published")
        answer = triton.infer("edit", inputs)
    assert answer.as_numpy("size").tolist() == [128, 96]
    serving.compose("--profile", "grpc", "rm", "--stop", "--force", "grpc")


def _live(triton: triton_grpc.InferenceServerClient) -> bool:
    try:
        return bool(triton.is_server_live())
    except triton_grpc.InferenceServerException:
        return False


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_has_no_rights_and_bounds(serving: Stack, service: str) -> None:
    status = dict(line.split(":\t", 1) for line in serving.python(service, STATUS).splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"1000"}
    rights = {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert (rights, status["NoNewPrivs"].strip()) == ({"0" * 16}, "1")
    for folder in ("/", "/app", "/models"):
        said = serving.python(service, TRY.format(what=f"open('{folder}/x', 'w'); print('written')"))
        assert said.startswith(("OSError 30", "FileNotFoundError")), (folder, said)
    assert serving.python(service, TRY.format(what="open('/tmp/x', 'w'); print('written')")) == "written"
    room = "import os; s = os.statvfs('{}'); print(s.f_blocks * s.f_frsize)"
    assert int(serving.python(service, room.format("/tmp"))) == 256 << 20
    host = serving.inspect(service)["HostConfig"]
    assert (host["Privileged"], host["ReadonlyRootfs"], host["Binds"]) == (False, True, None)
    assert host["PidsLimit"] > 0
    assert host["Memory"] == (2 << 30 if service == "gateway-cpu" else 0)
    assert service != "triton-cpu" or int(serving.python(service, room.format("/dev/shm"))) == 2 << 30


def test_triton_has_no_way_out_and_is_not_published(serving: Stack, listener: int) -> None:
    connect = TRY.format(what=CONNECT.format(port=listener))
    assert serving.python("triton-cpu", connect) == "OSError 101", "network is unreachable"
    assert serving.python("gateway-cpu", connect) == "reached", "or the listener is nothing to reach"
    assert not any(serving.inspect("triton-cpu")["NetworkSettings"]["Ports"].values())
    published = [*serving.inspect("gateway-cpu")["NetworkSettings"]["Ports"].values()]
    assert published == [[{"HostIp": "127.0.0.1", "HostPort": "8000"}]]


def test_a_process_that_is_killed_inside_triton_is_noticed_and_started_again(serving: Stack) -> None:
    before, restarts = serving.edit(PICTURE), serving.inspect("triton-cpu")["RestartCount"]
    assert int(serving.python("triton-cpu", KILL)) > 4
    eventually(lambda: serving.inspect("triton-cpu")["RestartCount"] > restarts, "Docker has not started it again")
    seen = set()

    def served() -> bool:
        seen.add(serving.ask("/readyz").status)
        return 200 in seen and serving.edit(PICTURE).status == 200

    eventually(served, "it does not serve again")
    assert seen == {200, 503}, "in between the gateway says so"
    assert "has died, and all is ended" in serving.compose("logs", "triton-cpu")
    assert serving.edit(PICTURE).body["image"] == before.body["image"]


def test_a_picture_by_url_comes_through_the_gateways_own_network_alone(serving: Stack, listener: int) -> None:
    refused = serving.ask("/v1/images/edits", {"image": {"image": f"http://{OUTSIDE}:{listener}/a.png"}, "prompt": "x"})
    assert refused.status == 422, "a private address"


def test_the_picture_is_edited_and_not_handed_back(serving: Stack) -> None:
    answer = serving.edit(PICTURE, response_format="raw")
    made = np.frombuffer(base64.b64decode(answer.body["image"]), np.uint8).reshape(96, 128, 3)
    assert np.abs(made.astype(int) - np.asarray(Image.Image.convert(PICTURE, "RGB"))).mean() > 1
