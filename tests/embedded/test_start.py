"""What is settled before any server runs: settings, ports, the repository, packages, Triton's command line, its log."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from embedded import ports, serve, wheel
from embedded.__main__ import _announce
from embedded.command import TritonOptions, TritonPorts, command_line
from embedded.errors import EmbeddedError
from embedded.repository import check_repository
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
    with pytest.raises(EmbeddedError, match=r"^TRITOUCH_EDIT_TIMEOUT_SECONDS=abc: .*number"), serve(tmp_path):
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


def test_a_repository_of_before_channels_is_refused_rather_than_served_in_part(tmp_path):
    (tmp_path / "edit" / ".tritouch").mkdir(parents=True)
    (tmp_path / "edit" / "config.pbtxt").write_text('name: "edit"')
    with pytest.raises(EmbeddedError, match="exported by an earlier version: export it again"):
        check_repository(tmp_path)
    (tmp_path / "edit_stream" / "1").mkdir(parents=True)
    (tmp_path / "edit_stream" / "config.pbtxt").write_text('name: "edit_stream"')
    with pytest.raises(EmbeddedError, match="exported by an earlier version: export it again"):
        check_repository(tmp_path)
    (tmp_path / "edit_stream" / "1" / "channel.py").touch()
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


def triton_command(folder, **settings):
    (folder / "run").mkdir()
    return Embedded(Settings(**settings), Path("/r"), folder / "run", {}).tritons[0].command("p-")


def test_triton_listens_on_the_loopback_address_and_takes_no_orders(tmp_path):
    wanted = dict(zip(("http", "grpc", "metrics"), ports.choose("127.0.0.1", [("", 0)] * 3), strict=True))
    (tmp_path / "without").mkdir()
    assert {flag for flag in triton_command(tmp_path / "without") if re.search("-http[-=](?!res)", flag)} == {
        "--allow-http=false"
    }
    line = triton_command(tmp_path, **{f"triton_{name}_port": port for name, port in wanted.items()})
    for service in ("http", "grpc", "metrics"):
        assert f"--{service}-address=127.0.0.1" in line
    assert {f"--{name}-port={port}" for name, port in wanted.items()} < set(line)
    assert {"--model-repository=/r", f"--backend-directory={tmp_path / 'run' / 'backends'}"} < set(line)
    assert {"--model-control-mode=none", "--disable-auto-complete-config"} < set(line)
    assert {"--allow-sagemaker=false", "--allow-vertex-ai=false"} < set(line)


def test_memory_and_the_time_to_exit_are_settings(tmp_path):
    sizes = {"triton_cache_bytes": 1 << 20, "triton_shm_bytes": 2 << 20}
    line = triton_command(tmp_path, **sizes, stop_seconds=0.2)
    assert {"--cache-config=local,size=1048576", "--exit-timeout-secs=1"} < set(line)
    shm = {"shm-default-byte-size=2097152", "shm-growth-byte-size=2097152", "shm-region-prefix-name=p-"}
    assert {f"--backend-config=python,{setting}" for setting in shm} < set(line)


def test_without_a_cache_triton_is_told_of_none():
    options = TritonOptions("triton", Path("/r"), "127.0.0.1", TritonPorts(1, 2, 3), 30, cache_bytes=0)
    assert not any("cache" in part for part in command_line(options))


def test_triton_makes_spans_only_where_a_collector_is_named(monkeypatch, tmp_path):
    assert not any("trace-config" in part for part in triton_command(tmp_path))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    (tmp_path / "traced").mkdir()
    line = triton_command(tmp_path / "traced")
    assert [part for part in line if "trace-config" in part] == [
        "--trace-config=mode=opentelemetry",
        "--trace-config=opentelemetry,url=http://a:4318/v1/traces",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=0",
        "--trace-config=opentelemetry,bsp_schedule_delay=100",
    ]
    (tmp_path / "wrong").mkdir()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "a:4318")
    with pytest.raises(EmbeddedError, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL"):
        triton_command(tmp_path / "wrong")


def test_the_key_to_what_is_closed_is_drawn_anew():
    options = TritonOptions("triton", Path("/r"), "127.0.0.1", TritonPorts(1, 2, 3), 30)
    (one,), (other,) = ([p for p in command_line(options) if "http-restricted" in p] for _ in range(2))
    assert re.fullmatch(r"--http-restricted-api=shared-memory,.*:tritouch key=[0-9a-f]{32}\n", one)
    assert one != other


def test_the_command_line_needs_no_package():
    code = "import backends.compatibility, embedded.command, gateway.collector"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=True)


def test_triton_finds_this_python_and_its_libraries():
    made = wheel.environment(FILES, {"PATH": "/bin", "LD_LIBRARY_PATH": "/cuda", "OTHER": "1"})
    assert made["PATH"] == f"{Path(sys.executable).parent}:/bin"
    assert made["LD_LIBRARY_PATH"] == "/t/lib:/cuda"
    assert made["OTHER"] == "1"


def test_huge_pages_are_asked_for_beside_what_the_user_tunes():
    assert wheel.environment(FILES, {})["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    made = wheel.environment(FILES, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"})
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


@pytest.mark.parametrize(("arguments", "message"), [(["--port", "99999"], "65535"), (["--port", "x"], "65535")])
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
