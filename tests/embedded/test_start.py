"""What is settled before any server runs: settings, ports, the repository, packages, its log."""

import errno
import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from embedded import ports, serve, wheel
from embedded.__main__ import _announce, _tell, on_stop_signals, parse
from embedded.errors import EmbeddedError
from embedded.replica import listening
from embedded.repository import check_repository
from embedded.server import _drain_seconds
from embedded.service import telling_lines
from embedded.settings import ROOT, Settings, load_settings


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("TRITOUCH_REPOSITORY", "/somewhere")
    monkeypatch.setenv("TRITOUCH_TRITON_GRPC_PORT", "7001")
    settings = load_settings()
    assert (settings.repository, settings.triton_grpc_port) == (Path("/somewhere"), 7001)


def test_the_default_repository_does_not_depend_on_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("TRITOUCH_REPOSITORY", raising=False)
    monkeypatch.chdir(tmp_path)
    assert load_settings().repository == ROOT / "model_repository"


def test_a_wrong_setting_is_named(monkeypatch):
    monkeypatch.setenv("TRITOUCH_TRITON_HTTP_PORT", "70000")
    with pytest.raises(EmbeddedError, match=r"^TRITOUCH_TRITON_HTTP_PORT=70000: .*65535"):
        load_settings()


@pytest.mark.parametrize("name", ["STOP_SECONDS", "EDIT_TIMEOUT_SECONDS", "TRITON_START_SECONDS"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e999", "1e25", "86401", "0"])
def test_a_wait_without_end_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TRITOUCH_{name}", value)
    with pytest.raises(EmbeddedError, match=rf"^TRITOUCH_{name}=\S+: Input should be"):
        load_settings()


@pytest.mark.parametrize("number", ["0", "65", "-1", "two", "\u0663", "9" * 5000])
def test_so_many_tritons_as_there_cannot_be_are_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        parse([f"--replicas={number}"])
    assert capsys.readouterr().err.endswith("argument --replicas: give how many, 1 to 64\n")
    assert parse(["--replicas=64"]).replicas == 64


def test_a_port_of_a_further_triton_that_is_none_is_named() -> None:
    """Sockets take a port modulo 65536, and would listen on another."""
    settings = Settings(triton_grpc_port=65530)
    with pytest.raises(EmbeddedError, match="Triton's gRPC: port 65540 is more than 65535, the last there is"):
        listening(settings, 2)


def test_a_wrong_setting_of_the_gateway_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITOUCH_EDIT_TIMEOUT_SECONDS", "abc")
    with pytest.raises(EmbeddedError, match=r"^TRITOUCH_EDIT_TIMEOUT_SECONDS=abc: .*number"), serve(tmp_path):
        pass


@pytest.mark.parametrize(
    ("stop", "own", "drain"),
    [(10, None, "10"), (10, "", "10"), (10, "60", "10"), (10, "5", "5"), (300, None, "300"), (0.2, None, "1")],
)
def test_the_gateway_drains_no_longer_than_a_stop_may_take(stop, own, drain):
    env = {} if own is None else {"TRITOUCH_DRAIN_SECONDS": own}
    assert _drain_seconds(Settings(stop_seconds=stop), env) == drain


def test_free_ports_differ_and_wanted_ones_are_kept():
    (wanted,) = ports.choose("127.0.0.1", [("one", 0)])
    chosen = ports.choose("127.0.0.1", [("a", 0), ("b", wanted), ("c", 0)])
    assert chosen[1] == wanted
    assert len(set(chosen)) == 3


def test_a_busy_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"^Triton's gRPC: port {port} on 127.0.0.1 is in use"):
            ports.choose("127.0.0.1", [("Triton's gRPC", port)])


def test_a_port_that_is_bound_and_not_listened_on_yet_is_had_by_nobody_else():
    """Of two that start at once, the second is told so at once, after a restart too."""
    (port,) = ports.choose("127.0.0.1", [("one", 0)])
    for _ in range(2):
        with ports.bind("127.0.0.1", port) as bound:
            with pytest.raises(EmbeddedError, match=f"^port {port} on 127.0.0.1 is in use"):
                ports.bind("127.0.0.1", port)
            ports.listen(bound)
            with socket.create_connection(("127.0.0.1", port)):
                bound.accept()[0].close()  # who closes first has the port for a minute more


@pytest.mark.parametrize("host", ["192.0.2.1", "..", 70 * "x"])
def test_an_address_of_another_machine_or_of_none_is_one_line(host):
    with pytest.raises(EmbeddedError, match=f"^cannot listen on {host}:80: "):
        ports.bind(host, 80)


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "unexported", "half exported", "dangling"])
def test_a_repository_that_cannot_be_served_says_how_to_build_one(tmp_path, kind):
    repository = tmp_path / "repository"
    if kind == "file":
        repository.touch()
    elif kind != "missing":
        repository.mkdir()
    if kind == "unexported":
        shutil.copytree(ROOT / "model_repository" / "preprocess", repository / "preprocess")
        (repository / "edit").mkdir()
        (repository / "edit" / "contract.pbtxt").touch()
    if kind in {"half exported", "dangling"}:
        (repository / "edit").mkdir()
        (repository / "edit" / "config.pbtxt").write_text('# model_name: "no"\nmodel_name: "denoiser"')
    if kind == "dangling":
        (repository / "denoiser").symlink_to("edit/nowhere")
    with pytest.raises(EmbeddedError, match="make export"):
        check_repository(repository)


def test_a_repository_that_says_to_backends_what_these_do_not_understand_is_refused(tmp_path):
    (tmp_path / "edit" / ".tritouch").mkdir(parents=True)
    (tmp_path / "edit" / "config.pbtxt").write_text('name: "edit"')
    with pytest.raises(EmbeddedError, match="edit_stream: exported by an earlier version: export again"):
        check_repository(tmp_path)
    (tmp_path / "edit_stream" / "1").mkdir(parents=True)
    (tmp_path / "edit_stream" / "config.pbtxt").write_text('name: "edit_stream"')
    ours = (ROOT / "model_repository" / "edit_stream" / "1" / "channel.py").read_text()
    for said in (None, ours.replace("\nVERSION", "\nOTHER"), ours.replace("\nVERSION = ", "\nVERSION = 1")):
        if said is not None:
            (tmp_path / "edit_stream" / "1" / "channel.py").write_text(said)
        with pytest.raises(EmbeddedError, match="edit_stream: exported by an earlier version: export again"):
            check_repository(tmp_path)
    (tmp_path / "edit_stream" / "1" / "channel.py").write_text(ours)
    assert check_repository(tmp_path) == tmp_path.resolve()


def test_engines_of_a_kind_that_is_not_served_are_refused_before_triton_starts(tmp_path):
    (tmp_path / "denoiser").mkdir()
    (tmp_path / "denoiser" / "config.pbtxt").touch()
    record = {"engine": "tensorrt", "versions": {"tensorrt": "11.4", "compute_capability": "8.9"}}
    (tmp_path / "denoiser" / "component.json").write_text(json.dumps(record))
    with pytest.raises(EmbeddedError, match="made for tensorrt, and this server serves openvino and tensorrt_rtx"):
        check_repository(tmp_path)


@pytest.mark.parametrize(("version", "message"), [("2.0.0", "numpy<2"), (None, "not installed")])
def test_a_wrong_numpy_is_refused(version, message):
    with pytest.raises(EmbeddedError, match=message):
        wheel.check_numpy(version)


def test_an_unsupported_python_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "version_info", type("Version", (), {"major": 3, "minor": 99}))
    with pytest.raises(EmbeddedError, match=r"does not support Python 3\.99"):
        wheel.find_triton()


def test_a_missing_wheel_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(EmbeddedError, match="nvidia-pytriton package is not installed"):
        wheel.find_triton()


def test_the_log_lines_that_tell_why():
    log = (
        'E1122 15:31:59.72 87 server.cc:241] "CudaDriverHelper has not been initialized."\n'
        "I1122 15:31:59.73 87 pb_stub.cc:366] loading\n"
        "E1122 15:32:00.03 87 model_lifecycle.cc:642] \"failed to load 'm': no module\\n\\nAt:\\n  model.py(1)\\n\"\n"
        "| m | UNAVAILABLE |\n"
        "error: creating server: Internal - failed to load all models\n"
    )
    lines = telling_lines(log)
    assert lines[0].endswith("failed to load 'm': no module")
    assert [line.strip() for line in lines[1:]] == ["At:", "model.py(1)", log.splitlines()[-1]]
    assert telling_lines("one\ntwo\n") == ["one", "two"]
    tensorrt = "[11/22/2025-15:31:59] [TRT] [E] Error Code 2: OutOfMemory (Requested size was 8 bytes.)"
    assert telling_lines(f"one\n{tensorrt}\n{tensorrt.replace('[E]', '[W]')}\n") == [tensorrt]


@pytest.mark.parametrize(("arguments", "message"), [(["--port", "99999"], "65535"), (["--port", "x"], "65535")])
def test_a_wrong_argument_is_a_line_and_code_2(arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "embedded", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_line_that_cannot_be_written_ends_nothing(monkeypatch):
    def full(text):
        tried.append(text)
        raise OSError(errno.ENOSPC, "No space left on device")

    tried = []
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=full))
    _tell("started again")
    assert tried


def test_what_nohup_ignores_stays_ignored():
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        on_stop_signals(print)
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN, print, print]
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        on_stop_signals(print)
        assert signal.getsignal(signal.SIGHUP) == print
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_any_other_refusal_of_the_system_is_a_line_and_code_2():
    done = subprocess.run(
        [sys.executable, "-m", "embedded", "--port", "0", "--repository", "/" + 300 * "x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("embedded: ")
    assert "name too long" in line


def test_a_missing_repository_is_a_line_and_code_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "embedded", "--port", "0", "--repository", str(tmp_path / "none")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"embedded: there is no model repository at {tmp_path / 'none'}: run `make export` to build it"
    ]


@pytest.mark.parametrize(
    ("playground", "first"), [(True, "open     http://here:8000"), (False, "gateway  http://here:8000")]
)
def test_the_address_to_open_comes_first(capsys, playground, first):
    tritons = [SimpleNamespace(grpc=f"there:{n}", http="", metrics_url=f"http://there:{n + 1}") for n in (1, 11)]
    running = SimpleNamespace(http_url="http://here:8000", tritons=tritons, run="/run")
    _announce(running, playground=playground)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(first)
    assert any(line.split() == ["gateway", "http://here:8000"] for line in lines)
    assert [line.split()[1:3] for line in lines if line.startswith("Triton")] == [
        ["gRPC", "there:1"],
        ["gRPC", "there:11"],
    ]
