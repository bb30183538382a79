"""The chart as helm renders it: valid for Kubernetes, KEDA and the Prometheus operator, and true to what it deploys."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from embedded.command import END_SECONDS
from tests.conftest import ROOT
from tests.fleet.conftest import CHART
from tests.fleet.tools import Tools

EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
ALL = ("--set", "autoscaling.enabled=true,monitoring.enabled=true,hubToken.value=hf_x,gateway.apiKeys.value=key")
Document = Mapping[str, Any]


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """The documents of a kind, by name."""
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def pods(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and pod of whatever makes pods."""
    for document in documents:
        if document["kind"] in {"Deployment", "Job"}:
            yield document["metadata"]["name"], document["spec"]["template"]


def environment(container: Document) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}


def matches(selector: Mapping[str, str], template: Document) -> bool:
    return selector.items() <= template["metadata"]["labels"].items()


@pytest.fixture(scope="module")
def everything(tools: Tools) -> list[dict[str, Any]]:
    """The chart with all that it can have."""
    return tools.render(CHART, *ALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid_as_a_chart_and_for_every_schema(tools: Tools, example: Path) -> None:
    linted = tools.run_helm("lint", CHART, "--strict", "--values", example)
    assert linted.returncode == 0, linted.stdout
    documents = tools.render(CHART, "--values", example)
    assert tools.faults(documents) == []


def test_the_whole_chart_is_valid_for_every_schema(tools: Tools, everything: list[dict[str, Any]]) -> None:
    assert {"ScaledObject", "ServiceMonitor", "Secret", "NetworkPolicy"} <= {one["kind"] for one in everything}
    assert tools.faults(everything) == []


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        ("Deployment", {"replica": 3}, "'replica' was unexpected"),
        ("ScaledObject", {"pollingInterva": 3}, '"pollingInterva"'),
        ("ScaledObject", {"maxReplicaCount": "3"}, "'string' is not assignable to type 'number'"),
        ("ServiceMonitor", {"endpoint": []}, '"endpoint"'),
    ],
)
def test_a_schema_has_something_against_what_is_wrong(
    tools: Tools, everything: list[dict[str, Any]], kind: str, wrong: dict[str, Any], said: str
) -> None:
    document = next(one for one in everything if one["kind"] == kind)
    assert said in "".join(tools.faults([{**document, "spec": document["spec"] | wrong}]))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--set", "gateway.settings.TRITOUCH_MAX_EDIT=3"], "'TRITOUCH_MAX_EDIT' not allowed"),
        (["--set", "gateway.settings.TRITOUCH_TRITON_GRPC=x:1"], "'TRITOUCH_TRITON_GRPC' not allowed"),
        (["--set", "pool[0].name=gpu"], "'pool' not allowed"),
        (["--set", "pools[0].name=gpu,pools[0].engine=trt"], "must be one of 'tensorrt', 'openvino'"),
        (["--set", "pools[0].replicas=2"], "missing property 'name'"),
        (["--set-json", "pools=[]"], "/pools"),
        (["--set", "images.registry=registry.example.org"], "/images/registry"),
        (["--set", "editTimeoutSeconds=0"], "/editTimeoutSeconds"),
        (["--set", "autoscaling.target=70"], "/autoscaling/target"),
        (["--set", "autoscaling.scaleDown.percent=0"], "/autoscaling/scaleDown/percent"),
        (["--set", "autoscaling.scaleDown.seconds=3600"], "/autoscaling/scaleDown/seconds"),
        (["--set", "gateway.models.sdxl=sdxl"], "/gateway/models/sdxl"),
        (["--set-json", 'pools=[{"name":"a"},{"name":"a"}]'], "two pools are called a"),
        (["--set", "gateway.modelName=sdxl,gateway.models.sdxl=b:8001"], "two models are called sdxl"),
        (["--set", "poolDefaults.minReplicas=5"], "minReplicas 5"),
        (["--set", "tracing.endpoint=collector:4318"], "/tracing/endpoint"),
        (["--set", "tracing.endpoint=http://me:word@collector:4318"], "/tracing/endpoint"),
        (["--set", "tracing.sampler=ratio"], "/tracing/sampler"),
        (["--set", "tracing.samplerArgument=1.5"], "/tracing/samplerArgument"),
        (["--set-json", 'tracing.resourceAttributes={"a":"b,c"}'], "/tracing/resourceAttributes/a"),
        (["--set", "tracing.certificate.secret=a,tracing.certificate.configMap=b"], "name a secret or a configMap"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(tools: Tools, flags: list[str], said: str) -> None:
    done = tools.run_helm("template", "tritouch", CHART, *flags)
    assert done.returncode != 0
    assert said in done.stderr


def test_no_pod_has_rights_or_variables_of_services(everything: list[dict[str, Any]]) -> None:
    """A Service `tritouch` would give every pod a `TRITOUCH_PORT` of its own."""
    for name, template in pods(everything):
        pod = template["spec"]
        assert pod["enableServiceLinks"] is pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True, name
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}


def test_what_goes_leaves_first_and_then_has_the_time_of_an_edit(everything: list[dict[str, Any]]) -> None:
    for name, template in pods(everything):
        if not name.startswith("tritouch-") or "-export-" in name:
            continue
        (container,) = template["spec"]["containers"]
        leave = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        grace = template["spec"]["terminationGracePeriodSeconds"]
        if name == "tritouch-envoy":
            assert leave >= 60 + 300, "its connections are closed within a minute, and their edits end in five"
            assert grace > leave
        else:
            assert leave >= 30 + 5, "as long as DNS may know it, and until Envoy asks again"
            edit = float(environment(container)["TRITOUCH_EDIT_TIMEOUT_SECONDS"])
            assert grace > leave + edit + END_SECONDS


def test_a_gpu_is_asked_for_by_all_that_need_one_and_by_no_others(tools: Tools) -> None:
    for engine, suffix in (("tensorrt", ""), ("openvino", "-cpu")):
        documents = tools.render(CHART, "--set", f"pools[0].name=p,pools[0].engine={engine}")
        for name, template in pods(documents):
            for container in [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]:
                gpus = container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu")
                needs = engine == "tensorrt" and ("-triton-" in name or "-export-" in name)
                assert gpus == (1 if needs else None), name
                if "-triton-" in name:
                    assert container["image"] == f"tritouch-triton{suffix}:0.1.0"
                if "-export-" in name:
                    assert container["image"] == f"tritouch-export{suffix}:0.1.0"
                    assert environment(container)["TRITOUCH_ENGINE"] == engine


def test_large_numbers_reach_the_settings_as_they_were_written(tools: Tools) -> None:
    flags = "gateway.settings.TRITOUCH_MAX_HELD_BYTES=1073741825,gateway.settings.TRITOUCH_URL_IMAGES=false"
    documents = tools.render(CHART, "--set", f"{flags},model.TRITOUCH_MAX_PIXELS=16777217")
    gateway = dict(pods(documents))["tritouch-gateway"]["spec"]["containers"][0]
    assert environment(gateway)["TRITOUCH_MAX_HELD_BYTES"] == "1073741825"
    assert environment(gateway)["TRITOUCH_URL_IMAGES"] == "false"
    assert not any("ipBlock" in json.dumps(rule) for rule in _egress(documents, "tritouch-gateway"))
    ((_, job),) = ((name, pod) for name, pod in pods(documents) if "-export-" in name)
    assert environment(job["spec"]["containers"][0])["TRITOUCH_MAX_PIXELS"] == "16777217"


def _egress(documents: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return list(of_kind(documents, "NetworkPolicy")[name]["spec"]["egress"])


def test_services_and_policies_find_the_pods_that_they_are_for(everything: list[dict[str, Any]]) -> None:
    templates = dict(pods(everything))
    found = {
        name: [pod for pod, template in templates.items() if matches(service["spec"]["selector"], template)]
        for name, service in of_kind(everything, "Service").items()
    }
    assert found == {
        "tritouch": ["tritouch-envoy"],
        "tritouch-balancer": ["tritouch-envoy"],
        "tritouch-gateways": ["tritouch-gateway"],
        "tritouch-tritons": ["tritouch-triton-gpu"],
        "tritouch-triton-gpu": ["tritouch-triton-gpu"],
    }
    for kind in ("NetworkPolicy", "PodDisruptionBudget"):
        for name, document in of_kind(everything, kind).items():
            spec = document["spec"]
            selector = (spec.get("podSelector") or spec["selector"])["matchLabels"]
            (one,) = (pod for pod, template in templates.items() if matches(selector, template))
            assert one.startswith(name)
    ports = {
        (name, port["port"]) for name, one in of_kind(everything, "Service").items() for port in one["spec"]["ports"]
    }
    config = of_kind(everything, "ConfigMap")["tritouch-envoy"]["data"]["envoy.yaml"]
    named = set(re.findall(r"address: (tritouch-\w+), port_value: (\d+)", config))
    assert (
        {(name, int(port)) for name, port in named}
        == {("tritouch-tritons", 8001), ("tritouch-gateways", 8000)}
        <= ports
    )


def test_only_the_balancer_reaches_triton_which_reaches_nothing(everything: list[dict[str, Any]]) -> None:
    policies = of_kind(everything, "NetworkPolicy")
    triton = policies["tritouch-triton"]["spec"]
    assert triton["egress"] == []
    assert set(triton["policyTypes"]) == {"Ingress", "Egress"}
    edits, figures = triton["ingress"]
    ((peer,), ports) = edits["from"], edits["ports"]
    assert ports == [{"port": 8001}]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "envoy"
    assert figures["ports"] == [{"port": 8002}]
    public = [rule for rule in policies["tritouch-gateway"]["spec"]["egress"] if "ipBlock" in json.dumps(rule)]
    (rule,) = public
    assert rule["ports"] == [{"port": 80}, {"port": 443}]
    except_four, except_six = (peer["ipBlock"]["except"] for peer in rule["to"])
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(except_four)
    assert {"fc00::/7", "fe80::/10"} <= set(except_six)


def test_keys_and_the_hubs_token_are_in_secrets_alone(tools: Tools) -> None:
    documents = tools.render(CHART, "--set", "hubToken.value=hf_secret,gateway.apiKeys.value=mykey")
    secrets = of_kind(documents, "Secret")
    assert secrets["tritouch-keys"]["stringData"] == {"api-keys": "mykey"}
    assert secrets["tritouch-hub"]["stringData"] == {"hub-token": "hf_secret"}
    rest = json.dumps([document for document in documents if document["kind"] != "Secret"])
    assert "hf_secret" not in rest
    assert "mykey" not in rest
    for name, template in pods(documents):
        text = json.dumps(template)
        assert ("tritouch-hub" in text) == ("-export-" in name)
        assert ("tritouch-keys" in text) == (name == "tritouch-gateway")


def test_several_models_are_named_to_the_gateway_and_one_is_not(tools: Tools) -> None:
    one = dict(pods(tools.render(CHART)))["tritouch-gateway"]["spec"]["containers"][0]
    assert environment(one)["TRITOUCH_TRITON_GRPC"] == "tritouch-balancer:8001"
    documents = tools.render(CHART, "--values", CHART / "examples" / "two-models.yaml")
    two = dict(pods(documents))["tritouch-gateway"]["spec"]["containers"][0]
    expected = "klein=tritouch-balancer:8001,sdxl=sdxl-tritouch-balancer:8001"
    assert environment(two)["TRITOUCH_TRITON_GRPC"] == expected
    other = tools.render(CHART, "--values", CHART / "examples" / "two-models-sdxl.yaml", name="sdxl-tritouch")
    assert "sdxl-tritouch-balancer" in of_kind(other, "Service")
    assert "sdxl-tritouch-gateway" not in of_kind(other, "Deployment")


def test_the_dashboard_is_the_one_of_the_compose_file(everything: list[dict[str, Any]]) -> None:
    shown = of_kind(everything, "ConfigMap")["tritouch-dashboard"]["data"]["tritouch.json"]
    assert json.loads(shown) == json.loads((ROOT / "deploy/monitoring/dashboards/tritouch.json").read_text())


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("ClusterIP", "port-forward service/tritouch 8000:80"),
        ("LoadBalancer", "status.loadBalancer"),
        ("NodePort", "nodePort"),
    ],
)
def test_the_notes_tell_the_address(tools: Tools, kind: str, command: str) -> None:
    done = tools.run_helm("install", "tritouch", CHART, "--dry-run=client", "--set", f"service.type={kind}")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.rpartition("NOTES:")[2]
    assert "http://tritouch.default.svc:80/v1/images/edits" in notes
    assert command in notes
    assert "Everybody who reaches it may edit" in notes
