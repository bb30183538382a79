"""The chart's values against the settings that they become; helm itself is in tests/fleet."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.fleet import THRESHOLD, parser
from bench.simulation.scaling import Scaling
from gateway.collector import SAMPLERS
from tests.conftest import ROOT
from tests.deploy.test_compose import gateway, models, read
from tests.test_docs import commands

CHART = ROOT / "deploy" / "chart"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
BY_ITSELF = {f"TRITOUCH_{name}" for name in ("HOST", "PORT", "TRITON_GRPC", "API_KEYS", "DRAIN_SECONDS")}
"""The gateway's settings that the chart makes of other values."""
ONE_TRITON = {"TRITOUCH_GPUS", "TRITOUCH_TRITON_REPLICAS"}
"""A pod has one GPU and one Triton: more of them are more pods."""
EDIT_TIMEOUT = "TRITOUCH_EDIT_TIMEOUT_SECONDS"
"""One value for Triton and the gateway."""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return dict(json.loads((CHART / "values.schema.json").read_text()))


def test_every_setting_is_a_value_and_every_value_a_setting(schema: dict[str, Any]) -> None:
    offered = schema["properties"]["gateway"]["properties"]["settings"]["properties"]
    assert set(offered) == gateway() - BY_ITSELF - {EDIT_TIMEOUT}
    triton = {name for name in read(ROOT / "deploy" / "serve_triton.py") if "_PORT" not in name} | models()
    own = {EDIT_TIMEOUT, "TRITOUCH_REPOSITORY", *ONE_TRITON}
    assert set(schema["$defs"]["pool"]["properties"]["settings"]["properties"]) == triton - own
    export = {name for name in read(ROOT / "deploy" / "export.sh") if name.startswith("TRITOUCH_")}
    assert set(schema["$defs"]["model"]["properties"]) == export - {
        "TRITOUCH_ENGINE",
        "TRITOUCH_REPOSITORY",
        *ONE_TRITON,
    }


def test_every_value_has_a_default_and_every_default_is_checked(schema: dict[str, Any]) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}
    assert set(values["poolDefaults"]) == set(schema["$defs"]["pool"]["properties"])
    pool = schema["properties"]["pools"]["items"]["properties"]
    assert set(pool) == {"name", *values["poolDefaults"]}


def test_defaults_that_templates_count_with_are_the_gateways_own() -> None:
    from gateway.settings import Settings

    text = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    used = re.findall(r'"name" "TRITOUCH_(\w+)" "default" ("[^"]*"|\S+?)\)', text)
    assert len(used) >= 5
    for name, default in used:
        own = Settings.model_fields[name.lower()].default
        written = ",".join(map(str, own)) if isinstance(own, tuple) else own
        assert str(json.loads(default)) == str(int(written) if isinstance(written, float) else written), name


def test_the_chart_passes_every_variable_of_traces_that_the_compose_file_does() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    named = set(re.findall(r"OTEL_[A-Z_]+", (CHART / "templates" / "_tracing.tpl").read_text()))
    assert named == set(compose["x-traces"])


def test_the_sampler_of_traces_is_one_that_is_known(schema: dict[str, Any]) -> None:
    assert set(schema["properties"]["tracing"]["properties"]["sampler"]["enum"]) == {"", *SAMPLERS}


def test_the_chart_takes_replicas_away_as_fast_as_the_simulation_does() -> None:
    simulated = parser().parse_args([])
    set_ = yaml.safe_load((CHART / "values.yaml").read_text())["autoscaling"]
    down = set_["scaleDown"]
    assert simulated.down == (1, down["percent"] / 100, down["seconds"])
    assert simulated.down_window == down["windowSeconds"]
    assert set_["target"] == THRESHOLD
    assert set_["pollingSeconds"] == Scaling.poll_seconds


def said(example: Path) -> list[str]:
    """The commands of an example's comments."""
    joined = re.sub(r"\\\n *# *", "", example.read_text())
    return re.findall(r"^ *# *((?:helm|kubectl) .*)$", joined, re.MULTILINE)


def test_a_command_loses_nothing_that_was_set_before_it() -> None:
    every = [*commands(ROOT / "docs" / "scale.md"), *(one for example in EXAMPLES for one in said(example))]
    assert all(any(one.startswith("helm ") for one in said(example)) for example in EXAMPLES)
    for command in every:
        if re.match(r"kubectl (create|--namespace)|helm (install|upgrade) \w", command):
            assert "--namespace tritouch" in command, command
        if re.match(r"helm upgrade \w", command):
            assert "--reset-then-reuse-values" in command, command
        if re.match(r"helm install \w", command):
            assert "--set images.registry=registry.example.org/,images.tag=TAG" in command, command


def test_no_example_takes_the_place_of_the_readers_own_registry_and_tag() -> None:
    assert [file.name for file in EXAMPLES if "images" in yaml.safe_load(file.read_text())] == []


def test_an_example_for_later_undoes_what_the_smallest_one_has_set() -> None:
    """A release that is upgraded keeps the values of before, where the next ones do not say otherwise."""
    small, more = (
        yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text()) for name in ("one-gpu", "three-replicas")
    )
    for name in ("models", "hub"):
        assert small["storage"][name]["accessMode"] == "ReadWriteOnce"
        assert more["storage"][name]["accessMode"] == "ReadWriteMany"
    assert small["gateway"]["replicas"] == small["envoy"]["replicas"] == 1
    assert more["gateway"]["replicas"] == more["envoy"]["replicas"] == 2


def test_the_chart_has_the_version_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert chart["version"] == chart["appVersion"] == version
