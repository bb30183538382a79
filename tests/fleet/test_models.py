"""Two models, each a release of the chart with Tritons and an Envoy of its own, behind the gateway of the first."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.containers.engine import eventually
from tests.fleet.callers import SECONDS, SMALL
from tests.fleet.conftest import CHART
from tests.fleet.envoy import running
from tests.fleet.fleet import Fleet, gateway
from tests.fleet.test_chart import of_kind
from tests.fleet.tools import Tools
from tests.gateway.streaming import events_of
from tests.server.faults import Faults

OTHER = "other-tritouch"
"""The second release."""
STEPS = {"base": 20, "other": 3}
"""Of an edit that does not say how many: so an answer tells the model that made it."""


@pytest.fixture(scope="module")
def other(tools: Tools, fleet: Fleet, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The second release with one Triton; the door's gateway knows both, as the models `base` and `other`."""
    folder = tmp_path_factory.mktemp("other")
    second = tools.render(CHART, "--set", "gateway.enabled=false", name=OTHER)
    balancer = f"{OTHER}-balancer"
    assert balancer in of_kind(second, "Service")
    first = tools.render(CHART, "--set", f"gateway.models.other={balancer}:8001")
    with ExitStack() as stack:
        envoy = stack.enter_context(running(tools, folder, second))
        made = Fleet(envoy, of_few_steps(Faults(folder, repository), repository), stack)
        made.enter(*made.start())
        stack.callback(fleet.envoy.set_hosts, "gateways", [fleet.gateway])
        stack.enter_context(gateway(fleet.envoy, first, folder, {f"{balancer}:8001": envoy}))
        eventually(lambda: set(told(fleet)) == set(STEPS), "the gateway does not know both")
        yield made


def of_few_steps(faults: Faults, original: Path) -> Faults:
    """The same, with the default of steps that `STEPS` has for the other model."""
    for model in ("edit", "edit_stream"):
        (faults.repository / model).unlink()
        shutil.copytree(original / model, faults.repository / model, ignore=shutil.ignore_patterns(".tritouch"))
    settings = faults.repository / "edit_stream" / "1" / "pipeline" / "settings.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"num_inference_steps": STEPS["other"]}))
    config = faults.repository / "edit" / "config.pbtxt"
    default = 'parameters {{ key: "num_inference_steps" value: {{ string_value: "{}" }} }}'.format
    assert default(STEPS["base"]) in config.read_text()
    config.write_text(config.read_text().replace(default(STEPS["base"]), default(STEPS["other"])))
    return faults


def models(fleet: Fleet) -> list[dict[str, Any]]:
    """What the door says of models and adapters: nothing while it does not know the gateway, which has just begun."""
    answer = httpx.get(f"{fleet.url}/v1/models", timeout=60, trust_env=False)
    return list(answer.json()["data"]) if answer.is_success else []


def told(fleet: Fleet) -> dict[str, int]:
    """Models, and their default of steps."""
    return {model["id"]: model["num_inference_steps"] for model in models(fleet) if model["parent"] is None}


def ask(fleet: Fleet, model: str | None, **fields: Any) -> httpx.Response:
    """The answer to one edit that does not say how many steps it has."""
    body = {"prompt": "make it red", "seed": 1, "image": SMALL["image"], "model": model, **fields}
    return httpx.post(f"{fleet.url}/v1/images/edits", json=body, timeout=SECONDS, trust_env=False)


def refused(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, the error's code and `Retry-After`."""
    return answer.status_code, answer.json()["error"]["code"], answer.headers.get("Retry-After", "")


UNAVAILABLE = (503, "unavailable", "1")


def test_each_model_is_told_with_its_own_defaults_and_adapters(fleet: Fleet, other: Fleet) -> None:
    eventually(lambda: told(fleet) == STEPS, "not both are told")
    adapters = {parent: {one["id"] for one in models(fleet) if one["parent"] == parent} for parent in STEPS}
    assert adapters["base"]
    assert adapters["other"] == {f"other/{name}" for name in adapters["base"]}


@pytest.mark.parametrize(
    ("model", "maker"),
    [(None, "base"), ("base", "base"), ("ink", "base"), ("other", "other"), ("other/ink", "other")],
)
def test_an_edit_is_made_by_the_model_that_it_names(fleet: Fleet, other: Fleet, model: str | None, maker: str) -> None:
    assert ask(fleet, model).json()["num_inference_steps"] == STEPS[maker]
    name, event = [one for one in events_of(ask(fleet, model, stream=True)) if one[0]][-1]
    assert name == "image_edit.completed"
    assert event["num_inference_steps"] == STEPS[maker]


@pytest.mark.parametrize("model", ["third", "third/ink", "other/third"])
def test_a_model_that_is_none_is_refused_and_told_those_that_are(fleet: Fleet, other: Fleet, model: str) -> None:
    answer = ask(fleet, model)
    assert refused(answer)[:2] == (422, "unknown_model")
    assert {"base", "other", "ink", "other/ink"} <= set(answer.json()["detail"].rstrip(".").replace(",", "").split())


@pytest.mark.parametrize("away", list(STEPS))
def test_while_the_tritons_of_one_model_are_away_the_other_serves(fleet: Fleet, other: Fleet, away: str) -> None:
    """They leave the endpoints, and come back."""
    gone, there = (fleet, "other") if away == "base" else (other, "base")
    hosts = list(gone.hosts)
    for replica in hosts:
        gone.leave(replica)
    try:
        eventually(lambda: ask(fleet, away).status_code == 503, "the model that is away serves still")
        assert refused(ask(fleet, away)) == UNAVAILABLE
        assert refused(ask(fleet, away, stream=True)) == UNAVAILABLE
        assert ask(fleet, there).json()["num_inference_steps"] == STEPS[there]
        eventually(lambda: set(told(fleet)) == {there}, "the model that is away is told still")
        eventually(lambda: httpx.get(f"{fleet.url}/readyz", timeout=60, trust_env=False).is_success, "not ready")
    finally:
        gone.enter(*hosts)
    eventually(lambda: told(fleet) == STEPS, "it is not told again")
    assert ask(fleet, away).json()["num_inference_steps"] == STEPS[away]


def test_a_model_whose_only_triton_was_killed_is_unavailable_and_no_other(fleet: Fleet, other: Fleet) -> None:
    """The last test: nothing takes its place."""
    (killed,) = other.hosts
    killed.kill()
    assert refused(ask(fleet, "other")) == UNAVAILABLE
    assert ask(fleet, "base").json()["num_inference_steps"] == STEPS["base"]
