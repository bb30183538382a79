"""What KEDA would read: its query, by a real Prometheus, which reads real Tritons as the ServiceMonitor has it."""

import json
import math
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from embedded import ports
from tests.conftest import ROOT
from tests.containers.engine import eventually
from tests.fleet.callers import SMALL, edit
from tests.fleet.conftest import CHART
from tests.fleet.envoy import HOST
from tests.fleet.fleet import Fleet
from tests.fleet.tools import Tools

EDITS = 6
Ask = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def documents(tools: Tools) -> list[dict[str, Any]]:
    return tools.render(CHART, "--set", "autoscaling.enabled=true,monitoring.enabled=true")


def scraping(documents: Sequence[Mapping[str, Any]], targets: Mapping[str, list[str]]) -> dict[str, Any]:
    """What the operator makes of the ServiceMonitor for the Services that it selects; `targets`: each one's pods."""
    (monitor,) = (one for one in documents if one["kind"] == "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    jobs = []
    for service in (one for one in documents if one["kind"] == "Service"):
        named = {port["name"] for port in service["spec"]["ports"]}
        if wanted <= service["metadata"]["labels"].items() and endpoint["port"] in named:
            name = service["metadata"]["name"]
            labels = {"namespace": "edits", "service": name}
            jobs.append({"targets": targets[name], "labels": labels})
    assert {job["labels"]["service"] for job in jobs} == set(targets)
    job = {"job_name": "tritouch", "metrics_path": endpoint["path"], "static_configs": jobs}
    return {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}


@pytest.fixture(scope="module")
def ask(
    tools: Tools, fleet: Fleet, documents: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ask]:
    """Asks Prometheus, which scrapes all of the fleet."""
    folder = tmp_path_factory.mktemp("prometheus")
    targets = {
        "tritouch-triton-gpu": [urllib.parse.urlsplit(one.embedded.metrics_url).netloc for one in fleet.hosts],
        "tritouch-gateways": [fleet.gateway],
        "tritouch-balancer": [f"{HOST}:{fleet.envoy.ports['figures']}"],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(scraping(documents, targets)))
    (port,) = ports.choose(HOST, [("Prometheus", 0)])
    command = [tools.prometheus, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]

    def query(expression: str) -> list[dict[str, Any]]:
        url = f"http://{HOST}:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return list(json.loads(answer.read())["data"]["result"])

    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={HOST}:{port}"], stdout=log, stderr=log)
    try:
        eventually(lambda: _answers(query), (folder / "log").read_text())
        yield query
    finally:
        process.terminate()
        process.wait(120)


def _answers(query: Ask) -> bool:
    try:
        return len(query("up == 1")) == 5
    except OSError:
        return False


def test_kedas_query_counts_the_edits_of_all_replicas(fleet: Fleet, ask: Ask, documents: list[dict[str, Any]]) -> None:
    (scaled,) = (one for one in documents if one["kind"] == "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    query, threshold = trigger["metadata"]["query"], float(trigger["metadata"]["threshold"])

    def edits() -> float:
        """The one number that KEDA takes; none where Prometheus has just missed a look at all of them."""
        found = ask(query)
        assert [one["metric"] for one in found] in ([{}], [])
        return float(found[0]["value"][1]) if found else math.nan

    eventually(lambda: edits() == 0, "there are edits where nobody edits")
    with ThreadPoolExecutor(EDITS) as pool:
        with fleet.slow():
            calls = [pool.submit(edit, fleet.url, SMALL, number, False) for number in range(EDITS)]
            eventually(lambda: edits() == EDITS, "the edits are not counted")
        assert math.ceil(EDITS / threshold) == 3, "replicas: six edits, and 0.7 of four each"
        assert {call.result().code for call in calls} == {"ok"}
    eventually(lambda: edits() == 0, "edits that are done are counted")


def test_the_dashboards_queries_have_answers(fleet: Fleet, ask: Ask) -> None:
    """All but those about GPUs, of which there are none here."""
    assert edit(fleet.url, SMALL, 0, streamed=False).code == "ok"
    dashboard = json.loads((ROOT / "deploy" / "monitoring" / "dashboards" / "tritouch.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for query in (one for one in queries if "nv_gpu" not in one):
        eventually(lambda query=query: ask(query), f"nothing answers {query}")
