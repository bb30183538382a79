"""Triton's command line, and what it finds of the wheel and of this Python."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from embedded import ports, wheel
from embedded.command import TritonOptions, TritonPorts, command_line
from embedded.errors import EmbeddedError
from embedded.server import Embedded
from embedded.settings import ROOT, Settings

FILES = wheel.TritonFiles(Path("/t/server"), Path("/t/python"), Path("/t/stub"), Path("/t/caches"), (Path("/t/lib"),))


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


@pytest.mark.parametrize(("processors", "loading"), [(1, 1), (2, 2), (4, 4), (64, 4)])
def test_no_more_models_are_loaded_at_once_than_there_are_processors(monkeypatch, tmp_path, processors, loading):
    monkeypatch.setattr("embedded.command.processors", lambda: processors)
    assert [part for part in triton_command(tmp_path) if "load-thread" in part] == [
        f"--model-load-thread-count={loading}"
    ]


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
