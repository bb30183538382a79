"""Real Tritons behind the chart's Envoy, whose hosts a test changes as Kubernetes would, and a real gateway."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from embedded import ports
from embedded.server import Embedded, serve
from embedded.settings import Settings
from tests.conftest import ROOT
from tests.containers.engine import eventually
from tests.fleet.envoy import HOST, Envoy
from tests.server.faults import Faults

SLOW_SECONDS = 10.0
STOP_SECONDS = 300.0
"""Longest time for the edits in flight of a replica that stops."""


class Replica:
    """One Triton, served until `stop`."""

    def __init__(self, embedded: Embedded, stack: ExitStack) -> None:
        self.embedded = embedded
        self._stack = stack
        self.address = embedded.triton_grpc

    @classmethod
    def started(cls, repository: Path) -> "Replica":
        """One that is ready."""
        with ExitStack() as stack:
            embedded = stack.enter_context(
                serve(repository, gateway=False, settings=Settings(stop_seconds=STOP_SECONDS))
            )
            return cls(embedded, stack.pop_all())

    def kill(self) -> None:
        """As a machine that loses its power, all but its kernel, which closes connections."""
        self.embedded.kill_triton()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Its server stands still for the block; connections to it stay open."""
        os.kill(self.embedded.triton_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.embedded.triton_pid, signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, as Kubernetes sends it after the pause; returns when it has ended. A second time does nothing."""
        self._stack.close()

    def begun(self) -> Counter[str]:
        """Edits that it took in, by what became of them; those still in flight as `in flight`."""
        with urllib.request.urlopen(self.embedded.metrics_url, timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        found: Counter[str] = Counter()
        for line in lines:
            name, _, value = line.rpartition(" ")
            if name.startswith("tritouch_edits_total{"):
                found[name.partition('outcome="')[2].partition('"')[0]] += round(float(value))
            elif name.startswith("tritouch_edits_in_flight{"):
                found["in flight"] += round(float(value))
        return +found


class Fleet:
    """Replicas behind an Envoy, all of one repository; what was started is stopped with `stack`."""

    def __init__(self, envoy: Envoy, faults: Faults, stack: ExitStack) -> None:
        self.envoy = envoy
        self._faults, self._stack = faults, stack
        self.hosts: list[Replica] = []
        self.gateway = ""

    @property
    def url(self) -> str:
        """Of its door; a release without gateways has none."""
        return f"http://{HOST}:{self.envoy.ports['door']}"

    def start(self, number: int = 1) -> list[Replica]:
        """So many more, ready, and not yet among the hosts."""
        with ThreadPoolExecutor(number) as pool:
            calls = [pool.submit(Replica.started, self._faults.repository) for _ in range(number)]
        replicas = [call.result() for call in calls]
        for replica in replicas:
            self._stack.callback(replica.stop)
        return replicas

    def enter(self, *replicas: Replica) -> None:
        """They are endpoints from now on, and Envoy sends them edits."""
        self._set([*self.hosts, *replicas])
        eventually(lambda: {one.address for one in replicas} <= self.envoy.healthy("tritons"), "they are not found")

    def leave(self, replica: Replica) -> None:
        """It is an endpoint no more, and Envoy knows it."""
        self._set([one for one in self.hosts if one is not replica])
        eventually(lambda: replica.address not in self.envoy.healthy("tritons"), "it has not left")

    def _set(self, hosts: list[Replica]) -> None:
        self.hosts = hosts
        self.envoy.set_hosts("tritons", [replica.address for replica in hosts])

    @contextlib.contextmanager
    def slow(self) -> Iterator[None]:
        """Calls of the denoiser that begin in the block take `SLOW_SECONDS`, at every replica."""
        self._faults.set(delay=SLOW_SECONDS)
        try:
            yield
        finally:
            self._faults.set()

    def calls(self) -> list[dict[str, Any]]:
        """Edits that have ended, in Envoy's access log: unary ones and streams. `time` is when one began, in UTC."""
        return [line for line in self.envoy.lines() if line["call"].endswith(("/ModelInfer", "/ModelStreamInfer"))]


@contextlib.contextmanager
def gateway(
    envoy: Envoy, documents: Sequence[Mapping[str, Any]], folder: Path, others: Mapping[str, Envoy] | None = None
) -> Iterator[str]:
    """A real gateway with the chart's settings, behind the door and before the balancers, ready: its address.

    `others`: Envoys of other releases, by the address of their balancers.
    """
    (container,) = (
        container
        for document in documents
        if document["kind"] == "Deployment"
        for container in document["spec"]["template"]["spec"]["containers"]
        if container["name"] == "gateway"
    )
    (port,) = ports.choose(HOST, [("gateway", 0)])
    rendered = {one["name"]: one["value"] for one in container["env"]}
    balancers = {"tritouch-balancer:8001": envoy, **(others or {})}
    tritons = re.sub(
        r"[\w-]+:8001", lambda name: f"{HOST}:{balancers[name[0]].ports['balancer']}", rendered["TRITOUCH_TRITON_GRPC"]
    )
    own = {
        "TRITOUCH_HOST": HOST,
        "TRITOUCH_PORT": str(port),
        "TRITOUCH_TRITON_GRPC": tritons,
        "TRITOUCH_DRAIN_SECONDS": "10",
    }
    env = {**os.environ, **rendered, **own}
    with (folder / "gateway.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        envoy.set_hosts("gateways", [f"{HOST}:{port}"])
        eventually(lambda: "ok" in envoy.get("door", "/readyz"), "the gateway is not ready")
        yield f"{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(120)
