"""The compose file and its variables: held to the schema, the settings and one another."""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from backends.kernel_cache import SETTING as KERNEL_CACHE
from backends.processor import HELD
from embedded.command import END_SECONDS, PORTS_APART
from embedded.settings import Settings as EmbeddedSettings
from embedded.supervisor import STOP_FILE_VARIABLE
from export.__main__ import parse
from gateway.settings import Settings as GatewaySettings
from gateway.targets import PORTS_APART as GATEWAYS_PORTS_APART
from gateway.targets import parse as parse_targets
from tests.conftest import ROOT

COMPOSE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
FIXED = {"TRITOUCH_HOST", "TRITOUCH_PORT", "TRITOUCH_TRITON_GRPC"}
"""The gateway's settings that the containers have no choice about."""
UNSAID = {
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
}
"""Of OpenTelemetry's variables those that only say what holds in containers anyhow, or where no endpoint is set, and
those that are looked at where somebody has set them, lest the SDK should fail on them."""
NAME = re.compile(r"\b(?:TRITOUCH|HF)_[A-Z_]+")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(COMPOSE.read_text())


def read(*paths: Path) -> set[str]:
    """The variables that files name."""
    return {name for path in paths for name in NAME.findall(path.read_text())}


def example() -> dict[str, str]:
    """The variables that the example lists, and the values it shows."""
    return dict(re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))


def models() -> set[str]:
    folders = ("model_repository/*/1", "families", "backends")
    files = [file for folder in folders for file in ROOT.glob(f"{folder}/*.py")]
    others = {KERNEL_CACHE, HELD}  # of TensorRT for RTX, which no image has, and of an export by hand
    return {name for name in read(*files) if name.startswith("TRITOUCH_")} - {STOP_FILE_VARIABLE} - others


def gateway() -> set[str]:
    return {f"TRITOUCH_{name.upper()}" for name in GatewaySettings.model_fields}


def services(compose, role: str):
    return [service for name, service in compose["services"].items() if name.removesuffix("-cpu") == role]


def test_the_file_follows_the_compose_specification():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_traces_can_be_had_of_the_gateway_and_of_triton_alike(compose):
    read = set(re.findall(r"OTEL_[A-Z_]*[A-Z](?![A-Z_])", (ROOT / "gateway" / "collector.py").read_text()))
    assert read - UNSAID <= set(compose["x-traces"])
    for service in (*services(compose, "gateway"), *services(compose, "triton")):
        assert set(compose["x-traces"]) <= set(service["environment"])
    page = (ROOT / "docs" / "tracing.md").read_text()
    assert all(f"`{name}`" in page for name in compose["x-traces"])


def test_every_setting_can_be_set_and_every_variable_is_read(compose):
    traces = set(compose["x-traces"])
    for service in services(compose, "gateway"):
        assert set(service["environment"]) - traces == gateway()
    triton = {name for name in read(ROOT / "deploy" / "serve_triton.py") if "_PORT" not in name}
    for service in services(compose, "triton"):
        assert set(service["environment"]) - {"HOME"} - traces == triton | models() | set(compose["x-model"])
    for service in services(compose, "export"):
        hub = {"HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE"}
        assert set(service["environment"]) - {"HOME"} - hub == read(ROOT / "deploy" / "export.sh")


def test_what_containers_share_with_the_embedded_servers_has_the_same_name_and_default():
    named = {f"TRITOUCH_{name.upper()}": str(field.default) for name, field in EmbeddedSettings.model_fields.items()}
    shared = {name for name in read(ROOT / "deploy" / "serve_triton.py") if name.endswith("_BYTES")}
    assert len(shared) == 2
    assert {name: example()[name] for name in shared} == {name: named[name] for name in shared}
    edit = "TRITOUCH_EDIT_TIMEOUT_SECONDS"
    assert edit in read(ROOT / "deploy" / "serve_triton.py")
    assert float(example()[edit]) == float(named[edit])


def test_the_example_lists_every_variable_that_a_user_may_set(compose):
    text = COMPOSE.read_text()
    interpolated = set(re.findall(r"\$\{([A-Z_]+)", text))
    passed = {
        name
        for service in compose["services"].values()
        if isinstance(service.get("environment"), dict)
        for name, value in service["environment"].items()
        if value is None
    }
    built = {name for service in compose["services"].values() for name in service.get("build", {}).get("args", {})}
    assert set(example()) == interpolated | passed | built
    assert not interpolated & passed


def test_the_examples_values_are_the_defaults(compose):
    shown = example()
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", COMPOSE.read_text()):
        assert shown[name] == default
    export = vars(parse(["--model", "x"]))
    names = "REVISION", "PRECISION", "MAX_PIXELS", "MAX_BATCH", "DEFAULT_STEPS", "SHIFT", "GUIDANCE_WHEN_ZERO", "CACHE"
    for name in names:
        default = export[name.lower()]
        assert shown[f"TRITOUCH_{name}"] == ("" if default is None else str(default)), name
    settings = GatewaySettings(**{name[9:].lower(): shown[name] for name in shown if name in gateway() - FIXED})
    assert settings == GatewaySettings()


def test_the_models_defaults_are_the_examples():
    shown = example()
    from families.picture import DecodingLimits

    assert DecodingLimits.from_environment(shown) == DecodingLimits()
    sources = "".join(path.read_text() for path in (ROOT / "model_repository").glob("*/1/*.py"))
    for name in ("MAX_JOBS", "DENOISER_CALLS", "IN_PLACE_BYTES"):
        assert f"DEFAULT_{name} = {shown[f'TRITOUCH_{name}']}\n" in sources


def test_only_the_gateway_is_published_unless_a_profile_asks(compose):
    published = {name for name, service in compose["services"].items() if "ports" in service}
    assert published == {"gateway", "gateway-cpu", "grpc", "grafana", "jaeger"}
    for name in published:
        assert "127.0.0.1" in compose["services"][name]["ports"][0], name
    assert compose["networks"]["inside"] == {"internal": True}
    assert all(set(service["networks"]) == {"inside"} for service in services(compose, "triton"))


ROLES = ("export", "check", "triton", "gateway")


@pytest.mark.parametrize("name", [role + suffix for role in ROLES for suffix in ("", "-cpu")])
def test_containers_are_hardened_and_bounded(compose, name):
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    assert service["pids_limit"] > 0
    assert service["tmpfs"] == ["/tmp:size=256m"]
    assert name.startswith("check") or re.fullmatch(r"\$\{TRITOUCH_\w+_MEMORY:-\w+\}", service["mem_limit"])
    assert service["restart"] == ("no" if name.startswith(("export", "check")) else "unless-stopped")


def test_every_image_is_a_stage_with_the_backend_that_its_services_need(compose):
    building = {name: service for name, service in compose["services"].items() if "build" in service}
    assert {name: service["image"] for name, service in building.items()} == {n: f"tritouch-{n}" for n in building}
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "deploy" / "triton.Dockerfile").read_text(), re.MULTILINE))
    targets = {name: service["build"].get("target") for name, service in building.items()}
    own = {"export-cpu": "export", "gateway": None, "gateway-cpu": None}
    assert targets == {stage: stage for stage in stages} | own
    for suffix in ("", "-cpu"):
        check = compose["services"][f"check{suffix}"]
        assert (check["image"], check["pull_policy"]) == (f"tritouch-triton{suffix}", "never")


def test_order_is_by_health(compose):
    for suffix, gpu in (("", True), ("-cpu", False)):
        export, check, triton, own = (compose["services"][role + suffix] for role in ROLES)
        done = {"condition": "service_completed_successfully"}
        assert check["depends_on"] == {f"export{suffix}": done | {"required": False}}, "what is installed is served"
        assert triton["depends_on"] == {f"check{suffix}": done}
        assert own["depends_on"] == {f"triton{suffix}": {"condition": "service_healthy"}}
        assert ("deploy" in triton) == ("deploy" in check) == ("deploy" in export) == gpu
        assert export.get("profiles") == triton.get("profiles") == own.get("profiles") == (None if gpu else ["cpu"])


def test_a_stop_gives_the_drain_its_time(compose, triton_flags):
    exit_seconds = int(dict(flag.split("=", 1) for flag in triton_flags() if "=" in flag)["--exit-timeout-secs"])
    assert exit_seconds == GatewaySettings().drain_seconds == GatewaySettings().edit_timeout_seconds
    for name in ("gateway", "triton"):
        grace = re.search(r":-(\d+)s", compose["services"][name]["stop_grace_period"])
        assert grace is not None
        assert int(grace[1]) > exit_seconds + END_SECONDS + 10


def test_triton_may_finish_an_edit_of_any_length(triton_flags):
    assert "--exit-timeout-secs=901" in triton_flags(TRITOUCH_EDIT_TIMEOUT_SECONDS="900.5")


def test_images_are_pinned(compose):
    built = {service["image"] for service in compose["services"].values() if "build" in service}
    images = [service["image"] for service in compose["services"].values() if service["image"] not in built]
    images += re.findall(r"^FROM (\S+/\S+|python\S+)", "".join(file.read_text() for file in DOCKERFILES), re.MULTILINE)
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", "".join(file.read_text() for file in DOCKERFILES), re.MULTILINE))
    for image in images:
        tag = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], image).rpartition(":")[2]
        assert re.match(r"v?\d+\.\d+", tag), image
    assert arguments["TRITON_TAG"] >= "26.07"


def test_all_images_of_triton_are_built_on_the_tag_that_is_set_or_the_default(compose):
    (default,) = re.findall(r"^ARG TRITON_TAG=(\S+)", (ROOT / "deploy" / "triton.Dockerfile").read_text(), re.MULTILINE)
    assert example()["TRITON_TAG"] == default
    for service in compose["services"].values():
        build = service.get("build", {})
        of_triton = build.get("dockerfile") == "deploy/triton.Dockerfile"
        assert build.get("args") == ({"TRITON_TAG": None} if of_triton else None)


def test_every_line_of_the_example_says_what_it_is():
    lines = EXAMPLE.read_text().splitlines()
    assert not [line for above, line in pairwise(lines) if re.match(r"#[A-Z]", line) and not above.startswith("# ")]


def test_the_dashboard_shows_figures_that_exist():
    dashboard = json.loads((ROOT / "deploy" / "monitoring" / "dashboards" / "tritouch.json").read_text())
    queries = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    sources = [*(ROOT / "gateway").glob("*.py"), *(ROOT / "model_repository").glob("*/1/*.py")]
    written = "".join(path.read_text() for path in sources)
    for name in set(re.findall(r"\btritouch_\w+", queries)):
        assert f'"{re.sub("_(bucket|sum|count)$", "", name)}"' in written or (
            f'"{name.removesuffix("_total")}"' in written
        ), name
    assert "/v1/images/(edits|generations)" in queries


def test_prometheus_reads_what_is_there(compose, triton_flags):
    jobs = yaml.safe_load((ROOT / "deploy" / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in jobs for each in job["static_configs"] for target in each["targets"]}
    (metrics,) = re.findall(r"^--metrics-port=(\d+)$", "\n".join(triton_flags()), re.MULTILINE)
    environment = compose["services"]["gateway"]["environment"]
    every = parse_targets(environment["TRITOUCH_TRITON_GRPC"])["base"]
    assert len(every) == 16
    assert GATEWAYS_PORTS_APART == PORTS_APART
    places = {f"triton:{int(metrics) + PORTS_APART * place}" for place in range(len(every))}
    assert targets == {f"gateway:{environment['TRITOUCH_PORT']}"} | places
    for name in ("gateway", "triton"):
        assert name in compose["services"][name]["networks"]["inside"]["aliases"]
    assert "inside" in compose["services"]["prometheus"]["networks"]
