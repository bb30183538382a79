"""What is settled before any server runs: settings, ports, the repository, packages, Triton's command line, its log."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from embedded import ports, serve, triton, wheel
from embedded.errors import EmbeddedError
from embedded.server import Embedded, _drain_seconds
from embedded.service import telling_lines
from embedded.settings import ROOT, Settings, load_settings

FILES = wheel.TritonFiles(Path("/t/server"), Path("/t/python"), Path("/t/stub"), Path("/t/caches"), (Path("/t/lib"),))


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


def test_a_wrong_setting_of_the_gateway_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITOUCH_EDIT_TIMEOUT_SECONDS", "abc")
    with pytest.raises(EmbeddedError, match=r"^TRITOUCH_EDIT_TIMEOUT_SECONDS: .*number"), serve(tmp_path):
        pass


@pytest.mark.parametrize(
    ("stop", "own", "drain"), [(10, None, "10"), (10, "60", "10"), (10, "5", "5"), (300, None, "300"), (0.2, None, "1")]
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


def test_an_address_of_another_machine_is_one_line():
    with pytest.raises(EmbeddedError, match=r"^cannot listen on 192.0.2.1:80: "):
        ports.bind("192.0.2.1", 80)


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "unexported", "dangling"])
def test_a_repository_that_cannot_be_served_says_how_to_build_one(tmp_path, kind):
    repository = tmp_path / "repository"
    if kind == "file":
        repository.touch()
    elif kind != "missing":
        repository.mkdir()
    if kind in {"unexported", "dangling"}:
        (repository / "edit").mkdir()
        (repository / "edit" / "config.pbtxt").write_text('# model_name: "no"\nmodel_name: "unet"')
    if kind == "dangling":
        (repository / "unet").symlink_to("edit/nowhere")
    with pytest.raises(EmbeddedError, match="make export"):
        triton.check_repository(repository)


def test_engines_of_a_kind_that_is_not_served_are_refused_before_triton_starts(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.pbtxt").touch()
    record = {"engine": "tensorrt", "versions": {"tensorrt": "11.4", "compute_capability": "8.9"}}
    (tmp_path / "unet" / "component.json").write_text(json.dumps(record))
    with pytest.raises(EmbeddedError, match="made for tensorrt, and this server serves openvino and tensorrt_rtx"):
        triton.check_repository(tmp_path)


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


def command_line(**settings):
    chosen = triton.TritonPorts(1, 2, 3)
    options = {"repository": Path("/r"), "backends": Path("/b"), "ports": chosen, "shm_prefix": "p-"}
    return triton.command_line(FILES, settings=Settings(**settings), **options)


def test_triton_listens_on_the_loopback_address_and_takes_no_orders():
    line = command_line()
    for service in ("http", "grpc", "metrics"):
        assert f"--{service}-address=127.0.0.1" in line
    assert {"--http-port=1", "--grpc-port=2", "--metrics-port=3", "--model-control-mode=none"} < set(line)
    assert {"--disable-auto-complete-config", "--allow-sagemaker=false", "--allow-vertex-ai=false"} < set(line)


def test_the_response_cache_is_a_setting():
    assert "--cache-config=local,size=1048576" in command_line(triton_cache_bytes=1048576)
    assert not any("cache-config" in part for part in command_line(triton_cache_bytes=0))


def test_triton_finds_this_python_and_its_libraries():
    made = triton.environment(FILES, {"PATH": "/bin", "LD_LIBRARY_PATH": "/cuda", "OTHER": "1"})
    assert made["PATH"] == f"{Path(sys.executable).parent}:/bin"
    assert made["LD_LIBRARY_PATH"] == "/t/lib:/cuda"
    assert made["OTHER"] == "1"


def test_huge_pages_are_asked_for_beside_what_the_user_tunes():
    assert triton.environment(FILES, {})["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    made = triton.environment(FILES, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"})
    assert made["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"


def test_backends_are_laid_out_with_what_they_share(tmp_path):
    wheel.lay_out_backends(wheel.find_triton(), tmp_path)
    assert os.access(tmp_path / "python" / "triton_python_backend_stub", os.X_OK)
    assert (tmp_path / "openvino" / "model.py").is_file()
    assert (tmp_path / "openvino" / "backends" / "common.py").is_file()


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


@pytest.mark.parametrize(("arguments", "message"), [(["--port", "99999"], "65535"), (["--port", "x"], "invalid")])
def test_a_wrong_argument_is_a_line_and_code_2(arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "embedded", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("folder", ["/dev/null", "/dev/null/below"])
def test_a_run_folder_that_cannot_be_made_is_a_line_and_code_2(tmp_path, folder):
    (tmp_path / "edit").mkdir()
    (tmp_path / "edit" / "config.pbtxt").touch()
    done = subprocess.run(
        [sys.executable, "-m", "embedded", "--port", "0", "--repository", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "TRITOUCH_RUN_FOLDER": folder},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"embedded: no run folder can be made in {folder}: ")


def test_a_run_folder_that_cannot_be_filled_is_named(tmp_path):
    with pytest.raises(EmbeddedError, match=f"^the run folder {tmp_path / 'gone'} cannot be filled: "):
        Embedded(Settings(), tmp_path, tmp_path / "gone", {})


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
