"""What the chart has traced: variables of every pod that makes spans, and the way to the collector, for nobody else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.collector import traces_url
from tests.fleet.conftest import CHART
from tests.fleet.test_chart import environment, of_kind, pods
from tests.fleet.tools import Tools

EXAMPLE = CHART / "examples" / "traces.yaml"
ANYWHERE = [{"namespaceSelector": {}}]
OBSERVABILITY = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observability"}}}]
"""The example's."""


def traced(documents: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Containers that have a variable of OpenTelemetry's, with their pods."""
    for _, template in pods(documents):
        for container in [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]:
            if any(name.startswith("OTEL_") for name in environment(container)):
                yield template, container


def roads(documents: list[dict[str, Any]], peers: Any) -> dict[str, list[Any]]:
    """Policies that let their pods reach just these peers, and at which ports."""
    return {
        name: [port["port"] for rule in policy["spec"]["egress"] if rule["to"] == peers for port in rule["ports"]]
        for name, policy in of_kind(documents, "NetworkPolicy").items()
        if any(rule["to"] == peers for rule in policy["spec"]["egress"])
    }


def test_gateways_and_tritons_get_every_variable_and_nothing_else_does(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("an authority")
    found = list(traced(tools.render(CHART, "--values", EXAMPLE)))
    assert [container["name"] for _, container in found] == ["gateway", "triton"]
    for template, container in found:
        variables = environment(container)
        here = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path / "ca.crt")}
        assert traces_url(variables | here) == "https://collector.observability:4318/v1/traces"
        assert variables["OTEL_TRACES_SAMPLER"] == "parentbased_traceidratio"
        assert variables["OTEL_TRACES_SAMPLER_ARG"] == "0.01"
        assert variables["OTEL_BSP_SCHEDULE_DELAY"] == "5000"
        attributes = dict(one.split("=") for one in variables["OTEL_RESOURCE_ATTRIBUTES"].split(","))
        own = {"k8s.pod.name": "$(POD_NAME)", "k8s.namespace.name": "edits"}
        assert attributes == own | {"deployment.environment.name": "production"}
        names = [variable["name"] for variable in container["env"]]
        assert names.index("POD_NAME") < names.index("OTEL_RESOURCE_ATTRIBUTES"), "else it would not be put in"
        (key,) = (one["valueFrom"] for one in container["env"] if one["name"] == "OTEL_EXPORTER_OTLP_HEADERS")
        assert key == {"secretKeyRef": {"name": "collector-key", "key": "headers"}}
        (mount,) = (one for one in container["volumeMounts"] if one["name"] == "collector")
        assert variables["OTEL_EXPORTER_OTLP_CERTIFICATE"] == f"{mount['mountPath']}/ca.crt"
        (volume,) = (one for one in template["spec"]["volumes"] if one["name"] == "collector")
        assert volume["configMap"] == {"name": "collector-authority"}


def test_the_authority_may_lie_in_a_secret(tools: Tools) -> None:
    flags = "tracing.endpoint=https://collector,tracing.certificate.secret=authority,tracing.certificate.key=tls.crt"
    for template, container in traced(tools.render(CHART, "--set", flags)):
        assert environment(container)["OTEL_EXPORTER_OTLP_CERTIFICATE"] == "/etc/collector/tls.crt"
        (volume,) = (one for one in template["spec"]["volumes"] if one["name"] == "collector")
        assert volume["secret"] == {"secretName": "authority"}


def test_without_a_collector_nothing_is_traced_and_no_way_is_opened(tools: Tools) -> None:
    documents = tools.render(CHART, "--values", EXAMPLE, "--set", "tracing.endpoint=")
    assert list(traced(documents)) == []
    assert "collector" not in str([template for _, template in pods(documents)])
    assert of_kind(documents, "NetworkPolicy")["tritouch-triton"]["spec"]["egress"] == []
    assert roads(documents, OBSERVABILITY) == {}


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("endpoint=http://collector:4318", 4318),
        ("endpoint=http://[fd00::1]:4319/otlp", 4319),
        ("endpoint=http://collector", 80),
        ("endpoint=https://collector/v1", 443),
        ("tracesEndpoint=http://collector:5000/traces,tracing.endpoint=http://other:4318", 5000),
    ],
)
def test_gateways_and_tritons_reach_the_collector_at_its_port(tools: Tools, endpoint: str, port: int) -> None:
    documents = tools.render(CHART, "--set", f"tracing.{endpoint}")
    assert roads(documents, ANYWHERE) == {"tritouch-gateway": [port], "tritouch-triton": [port]}
    triton = of_kind(documents, "NetworkPolicy")["tritouch-triton"]["spec"]["egress"]
    names, _ = triton
    assert names["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
