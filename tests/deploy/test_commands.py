"""Every command that a container runs, run here: the scripts with a tiny repository, on the wheel's Triton."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from embedded.ports import choose
from embedded.server import Embedded
from embedded.settings import Settings
from embedded.wheel import find_triton, lay_out_backends
from export.__main__ import parse
from tests.conftest import ADAPTERS, ROOT, ROUTES

from .conftest import DEPLOY, base_environment, dockerfile_commands, dockerfile_engines, healthy, run_here


def exporting(checkpoint: Path, repository: Path) -> dict[str, str]:
    return {
        **base_environment(),
        "TRITOUCH_MODEL": str(checkpoint),
        "TRITOUCH_ADAPTERS": " ".join(f"{route}={ADAPTERS / source}" for route, source in ROUTES.items()),
        "TRITOUCH_ENGINE": "openvino",
        "TRITOUCH_PRECISION": "fp32",
        "TRITOUCH_MAX_PIXELS": str(256 * 256),
        "TRITOUCH_MAX_BATCH": "8",
        "TRITOUCH_GUIDANCE_WHEN_ZERO": "1",
        "TRITOUCH_REPOSITORY": str(repository),
    }


@pytest.mark.slow
def test_the_export_finds_its_repository_up_to_date(checkpoint, repository):
    command = run_here(dockerfile_commands()["export"])
    env = exporting(checkpoint, repository)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("up to date") == 4


def test_what_is_not_set_is_left_to_the_exports_own_defaults(export_flags):
    least = ["-m", "export", "--model", "owner/name", "--engine", "openvino", "--repository", "/models"]
    flags = {
        "TRITOUCH_PRECISION": "--precision",
        "TRITOUCH_MAX_PIXELS": "--max-pixels",
        "TRITOUCH_MAX_BATCH": "--max-batch",
        "TRITOUCH_VAE_TILE_PIXELS": "--vae-tile-pixels",
        "TRITOUCH_EXPORT_MAX_IMAGES": "--max-images",
        "TRITOUCH_DEFAULT_STEPS": "--default-steps",
        "TRITOUCH_SHIFT": "--shift",
        "TRITOUCH_GUIDANCE_WHEN_ZERO": "--guidance-when-zero",
        "TRITOUCH_CACHE": "--cache",
        "TRITOUCH_SAFETY_CHECKER": "--safety-checker",
        "TRITOUCH_PREVIEW_DECODER": "--preview-decoder",
        "TRITOUCH_CALIBRATION": "--calibration",
    }
    lists = {"TRITOUCH_ADAPTERS": "", "TRITOUCH_OPTIONS": " ", "TRITOUCH_ADAPTER_DEFAULTS": ""}
    lists["TRITOUCH_ACCEPT_QUALITY"] = ""
    assert "--accept-quality" in export_flags(TRITOUCH_ACCEPT_QUALITY="1")
    assert export_flags() == export_flags(**dict.fromkeys(flags, ""), **lists) == least
    set_ones = [part for number, flag in enumerate(flags.values()) for part in (flag, str(number))]
    values = {name: str(number) for number, name in enumerate(flags)}
    assert export_flags(**values) == [*least[:-2], *set_ones, *least[-2:]]


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("TRITOUCH_ADAPTERS", "--adapter"),
        ("TRITOUCH_ADAPTER_DEFAULTS", "--adapter-defaults"),
        ("TRITOUCH_OPTIONS", "--option"),
    ],
)
def test_what_may_be_given_often_is_apart_by_blanks(export_flags, name, flag):
    given = export_flags(**{name: " a=/b.safetensors  *\tc=d/e:0.7\n"})
    assert given[:8] == ["-m", "export", flag, "a=/b.safetensors", flag, "*", flag, "c=d/e:0.7"]


def test_every_flag_of_the_export_can_be_given_to_its_container():
    """All but the GPUs to compile for, which TensorRT takes from the machine."""
    script = (DEPLOY / "export.sh").read_text()
    assert {f"--{name.replace('_', '-')}" for name in vars(parse(["--model", "x"]))} == {
        "--compute-capability",
        *re.findall(r"--[a-z-]+", script),
    }


@pytest.mark.slow
def test_the_export_refuses_what_it_cannot_do(checkpoint, tmp_path):
    env = {**exporting(checkpoint, tmp_path), "TRITOUCH_MAX_BATCH": "0"}
    command = run_here(dockerfile_commands()["export"])
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "export: --max-batch must be 1 to 256\n")


PARAMETERS = r"--(model-repository|backend-directory|cache-directory|allow-http|\w+-address|\w+-port)=.*"
SHM_PREFIX = r"--backend-config=python,shm-region-prefix-name=.*"


def hardening(flags: list[str]) -> list[str]:
    """Flags without those that say where a server is, and with one key for all."""
    kept = [flag for flag in flags if not re.fullmatch(f"{PARAMETERS}|{SHM_PREFIX}", flag)]
    return sorted(re.sub(r"tritouch key=[0-9a-f]{32}\n$", "tritouch key=KEY", flag) for flag in kept)


def test_triton_is_hardened_in_containers_as_it_is_without_them(triton_flags, tmp_path):
    (tmp_path / "run").mkdir()
    _, *embedded = Embedded(Settings(), tmp_path, tmp_path / "run", {}).tritons[0].command("p-")
    container = hardening(triton_flags())
    assert container == hardening(embedded)
    closed = "shared-memory,model-repository,trace,logging:tritouch key=KEY"
    assert {f"--http-restricted-api={closed}", f"--grpc-restricted-protocol={closed}"} < set(container)


def test_triton_makes_the_same_spans_in_containers(triton_flags, tmp_path):
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    (tmp_path / "run").mkdir()
    _, *embedded = Embedded(Settings(), tmp_path, tmp_path / "run", named).tritons[0].command("p-")
    traced = [flag for flag in triton_flags(**named) if flag.startswith("--trace-config")]
    assert traced == [flag for flag in embedded if flag.startswith("--trace-config")]
    assert len(traced) == 5


def started(installed, **settings):
    """Exit code and errors of Triton's container."""
    command, env = run_here(dockerfile_commands()["triton"]), base_environment() | installed | settings
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_collector_that_is_none_is_named(installed):
    said = "OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL, as in http://collector:4318\n"
    assert started(installed, OTEL_EXPORTER_OTLP_ENDPOINT="a:4318") == (1, said)


def test_triton_in_a_container_is_reached_from_outside_and_takes_its_settings(triton_flags, tmp_path):
    flags = triton_flags(TRITOUCH_TRITON_CACHE_BYTES="0", TRITOUCH_TRITON_SHM_BYTES="2097152")
    assert f"--model-repository={tmp_path}" in flags
    assert {"--http-port=8000", "--grpc-port=8001", "--metrics-port=8002"} < set(flags)
    assert {f"--{name}-address=0.0.0.0" for name in ("grpc", "metrics")} < set(flags)
    assert "--http-address=127.0.0.1" in flags, "for its own health check alone"
    assert "--backend-config=python,shm-growth-byte-size=2097152" in flags
    assert not any("cache" in flag or "backend-directory" in flag for flag in flags)
    assert triton_flags(TRITOUCH_TRITON_CACHE_BYTES="") != flags, "empty is not set"


def test_a_setting_of_triton_that_is_no_number_is_named(installed):
    said = "TRITOUCH_TRITON_SHM_BYTES is '8M', and must be a whole number from 1048576 to 1099511627776\n"
    assert started(installed, TRITOUCH_TRITON_SHM_BYTES="8M") == (1, said)


def test_a_setting_of_a_model_that_is_wrong_is_named_before_triton_starts(installed):
    said = "TRITOUCH_WARM_UP_SECONDS is 'soon', and must be seconds from 0 to 86400\n"
    assert started(installed, TRITOUCH_WARM_UP_SECONDS="soon") == (1, said)


def test_a_port_of_triton_that_is_none_is_named(installed):
    said = "TRITOUCH_TRITON_GRPC_PORT: port 65536 is none: ports are 1 to 65535\n"
    assert started(installed, TRITOUCH_TRITON_GRPC_PORT="65536") == (1, said)


@pytest.mark.parametrize("value", ["5m", "0", "-1", "inf", "nan", "86401"])
def test_a_deadline_that_is_none_is_named(installed, value):
    env = {**installed, "TRITOUCH_EDIT_TIMEOUT_SECONDS": value}
    command = run_here(dockerfile_commands()["triton"])
    done = subprocess.run(command, env=base_environment() | env, capture_output=True, text=True, check=False)
    said = f"TRITOUCH_EDIT_TIMEOUT_SECONDS is '{value}', and must be seconds, more than 0 and at most 86400\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("flags", [[], ["--check"]])
def test_triton_is_not_started_on_engines_of_another_machine(installed, tmp_path, flags):
    (tmp_path / "denoiser").mkdir()
    versions = {"tensorrt": "0.0", "compute_capability": "8.9"}
    (tmp_path / "denoiser" / "component.json").write_text(json.dumps({"engine": "tensorrt", "versions": versions}))
    env = base_environment() | installed | {"ENGINES": dockerfile_engines()["triton"]}
    command = [*run_here(dockerfile_commands()["triton"]), *flags]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "engines: denoiser: compiled by TensorRT 0.0, and here is none: export again on this machine" in done.stderr
    assert "tritonserver" not in done.stderr


@pytest.mark.parametrize("flags", [[], ["--check"]])
def test_triton_is_not_started_where_nothing_is_installed(tmp_path, flags):
    env = base_environment() | {"TRITOUCH_REPOSITORY": str(tmp_path), "ENGINES": "openvino"}
    command = [*run_here(dockerfile_commands()["triton"]), *flags]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    said = f"nothing is installed in {tmp_path}: no export has succeeded yet, and its log says why\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_what_is_installed_is_checked_without_starting_anything(installed):
    command = [*run_here(dockerfile_commands()["triton"]), "--check"]
    done = subprocess.run(command, env=base_environment() | installed, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_image_for_processors_has_the_backend_that_embedded_serves_with(tmp_path):
    copied, embedded = tmp_path / "copied", tmp_path / "embedded"
    place = "/opt/tritonserver/backends/openvino/"
    dockerfile = (DEPLOY / "triton.Dockerfile").read_text()
    for source, target in re.findall(rf"^COPY --chmod=755 (\S+) {place}(\S*)$", dockerfile, re.MULTILINE):
        (copied / target).mkdir(parents=True, exist_ok=True)
        for file in ROOT.glob(f"{source}/*" if (ROOT / source).is_dir() else source):
            if file.is_file():
                shutil.copy(file, copied / target)
    lay_out_backends(find_triton(), embedded)

    def files(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert files(copied) == files(embedded / "openvino")


def test_an_images_own_pip_is_left_alone():
    wanted = re.search(r"pip install \"\$\((grep .+) /app/(\S+)\)\"", (DEPLOY / "triton.Dockerfile").read_text())
    assert wanted is not None
    found = subprocess.run([*shlex.split(wanted[1]), wanted[2]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"uv==[\d.]+\n", found.stdout)


def test_a_container_that_does_not_answer_is_not_healthy():
    ((_, port),) = [("none", port) for port in choose("127.0.0.1", [("none", 0)])]
    assert not healthy(f"http://127.0.0.1:{port}/readyz")


@pytest.mark.slow
def test_the_version_of_tensorrt_is_the_librarys_own():
    rtx = pytest.importorskip("tensorrt_rtx")
    (library,) = Path(rtx.__file__).parents[1].glob("tensorrt_rtx_libs/libtensorrt_rtx.so*")
    command = [sys.executable, str(DEPLOY / "tensorrt_version.py"), "--library", str(library)]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == rtx.__version__
    compare = [*command, "--same-as-bindings", "--bindings"]
    assert subprocess.run([*compare, "tensorrt_rtx"], check=False).returncode == 0
    missing = subprocess.run([*compare, "no_such_module"], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert missing.stderr == (
        f"the Python bindings of TensorRT {rtx.__version__} cannot be loaded: No module named 'no_such_module'\n"
    )
    other = subprocess.run([*compare, "numpy"], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert f"and the image has {rtx.__version__}" in other.stderr


def test_an_image_without_tensorrt_is_not_built():
    command = [sys.executable, str(DEPLOY / "tensorrt_version.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        pytest.skip("this machine has TensorRT")
    assert done.stderr == "TensorRT's library (libnvinfer) is not in this image\n"


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["gateway", "triton", "export", "cpu"])
def test_packages_resolve_for_python_3_12(lock):
    """The images' Python, and the newer of those that `make setup` takes: every pin, with what it needs.

    torch is taken from the index of its CPU build instead.
    """
    command = [sys.executable, "-m", "uv", "pip", "compile", "--no-header", "--no-annotate", "--no-python-downloads"]
    command += ["--python-version", "3.12", "--override", "requirements/no-torch.txt", f"requirements/{lock}.lock"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "error sending request" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    pins = set((ROOT / "requirements" / f"{lock}.lock").read_text().split())
    assert {line for line in done.stdout.splitlines() if "==" in line} == pins
