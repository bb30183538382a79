"""Envoy with the chart's own configuration, in which only ports are free ones here, and hosts come out of a file."""

import contextlib
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from embedded import ports
from tests.containers.engine import eventually
from tests.fleet.tools import Tools

HOST = "127.0.0.1"


def configuration(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Envoy's configuration among the chart's documents."""
    (text,) = (
        document["data"]["envoy.yaml"]
        for document in documents
        if document["kind"] == "ConfigMap" and "envoy.yaml" in document["data"]
    )
    return dict(yaml.safe_load(text))


class Envoy:
    """Its `ports` by listener, `admin` among them; `lines`, its access log. Made by `running`."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self._config = config
        self.listeners = [listener["name"] for listener in config["static_resources"]["listeners"]]
        names = [*self.listeners, "admin"]
        self.ports = dict(zip(names, ports.choose(HOST, [(name, 0) for name in names]), strict=True))
        self.log = folder / "envoy.log"
        self.file = folder / "envoy.json"

    def write(self) -> None:
        """The configuration, with this machine's ports and files."""
        resources = self._config["static_resources"]
        for listener in resources["listeners"]:
            listener["address"]["socket_address"] = {"address": HOST, "port_value": self.ports[listener["name"]]}
        self._config["admin"]["address"]["socket_address"]["port_value"] = self.ports["admin"]
        for cluster in resources["clusters"]:
            if "cluster_type" in cluster:
                assert cluster.pop("cluster_type")["name"] == "envoy.cluster.dns"
                del cluster["load_assignment"]
                source = {
                    "path_config_source": {"path": str(self._hosts(cluster["name"]))},
                    "resource_api_version": "V3",
                }
                cluster |= {"type": "EDS", "eds_cluster_config": {"eds_config": source}}
                self.set_hosts(cluster["name"], [])
            else:
                (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
                endpoint["endpoint"]["address"]["socket_address"]["port_value"] = self.ports["admin"]
        self.file.write_text(json.dumps(self._config))

    def _hosts(self, cluster: str) -> Path:
        return self.folder / f"{cluster}.json"

    def set_hosts(self, cluster: str, addresses: Sequence[str]) -> None:
        """Who is in a cluster from now on, each HOST:PORT. Envoy sees a file that takes another's place."""
        hosts = []
        for address in addresses:
            host, _, port = address.partition(":")
            place = {"address": host, "port_value": int(port)}
            hosts.append({"endpoint": {"address": {"socket_address": place}}})
        assignment = {
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": cluster,
            "endpoints": [{"lb_endpoints": hosts}],
        }
        new = self.folder / f"{cluster}.new"
        new.write_text(json.dumps({"resources": [assignment]}))
        new.rename(self._hosts(cluster))

    def lines(self) -> list[dict[str, Any]]:
        """Its access log: a line for each call of the balancer that has ended."""
        whole, _, _ = self.log.read_text().rpartition("\n")  # the last may be half a line yet
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def get(self, listener: str, path: str) -> str:
        """What a GET answers; empty where nothing does."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.ports[listener]}{path}", timeout=60) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""

    def healthy(self, cluster: str) -> set[str]:
        """Addresses of a cluster that edits are sent to."""
        if not (text := self.get("admin", "/clusters?format=json")):
            return set()
        found = set()
        for one in json.loads(text)["cluster_statuses"]:
            for host in one.get("host_statuses", []):
                place = host["address"]["socket_address"]
                flags = {name for name, value in host["health_status"].items() if value is True}
                if one["name"] == cluster and not flags:
                    found.add(f"{place['address']}:{place['port_value']}")
        return found

    def figure(self, name: str) -> int:
        """One of its counters or gauges."""
        text = self.get("admin", f"/stats?filter=^{name}$")
        return int(text.rpartition(":")[2])


@contextlib.contextmanager
def running(tools: Tools, folder: Path, documents: Sequence[Mapping[str, Any]]) -> Iterator[Envoy]:
    """Envoy as the chart's container starts it, ready; no cluster has hosts yet."""
    (container,) = (
        container
        for document in documents
        if document["kind"] == "Deployment"
        for container in document["spec"]["template"]["spec"]["containers"]
        if container["name"] == "envoy"
    )
    envoy = Envoy(folder, configuration(documents))
    envoy.write()
    arguments = [str(envoy.file) if argument == "/etc/envoy/envoy.yaml" else argument for argument in container["args"]]
    own = [
        "--service-node",
        "test",
        "--service-cluster",
        "test",
        "--log-level",
        "warning",
        "--file-flush-interval-msec",
        "200",
    ]
    with envoy.log.open("wb") as log, (folder / "envoy.err").open("wb") as errors:
        process = subprocess.Popen([str(tools.envoy), *arguments, *own], stdout=log, stderr=errors)
    try:
        eventually(
            lambda: process.poll() is not None or "LIVE" in envoy.get("figures", "/ready"), "Envoy does not start"
        )
        assert process.poll() is None, (folder / "envoy.err").read_text()
        yield envoy
    finally:
        process.terminate()
        process.wait(120)
