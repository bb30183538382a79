"""The gateway under load, before a Triton that does nothing but take its time: `python -m bench load SCENARIO`.

Needs no GPU and no model. Prints each metric with what it is held to, and exits with 1 when one is not met.
"""

# ruff: noqa: S311 - it is a command-line tool, and its randomness guards nothing

import argparse
import asyncio
import base64
import itertools
import json
import os
import random
import socket
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.stub_triton import StubTriton, answer

SLOTS, SECONDS = 8, 2.0
CAPACITY = SLOTS / SECONDS  # edits a second
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff" + bytes(100_000)
MIB = 1 << 20


class SlowTriton(StubTriton):
    """Edits SLOTS at once, each in SECONDS; `took` has how long each request was here, by its id."""

    def __init__(self) -> None:
        super().__init__(SLOTS, answered=answer(JPEG, 512))
        self.took: dict[str, float] = {}

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        start = time.perf_counter()
        async with self._slots:
            await asyncio.sleep(SECONDS)
        self.took[request.id] = time.perf_counter() - start
        return self.answered


class Process:
    """The gateway as a process of its own, and what the kernel says of it."""

    async def __aenter__(self) -> "Process":
        self.triton = SlowTriton()
        port = await self.triton.start()
        mine = {"TRITOUCH_TRITON_GRPC": f"127.0.0.1:{port}", "TRITOUCH_MAX_EDITS": "16", "TRITOUCH_LOG_LEVEL": "error"}
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            command = [sys.executable, "-m", "gateway", "--fd", str(listening.fileno())]
            self._gateway = await asyncio.create_subprocess_exec(
                *command, env=os.environ | mine, pass_fds=[listening.fileno()]
            )
        limits = httpx.Limits(max_connections=None)
        self.client = httpx.AsyncClient(base_url=self.url, timeout=120, trust_env=False, limits=limits)
        (await self.client.get("/readyz")).raise_for_status()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        self._gateway.terminate()
        await self._gateway.wait()
        await self.triton.stop()

    def resident(self, name: str = "VmRSS") -> float:
        """Resident set in MiB; with `VmHWM` the largest so far."""
        lines = Path(f"/proc/{self._gateway.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name + ":")).split()[1]) / 1024

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self._gateway.pid}/fd").iterdir()))

    async def gauge(self, name: str) -> float:
        text = (await self.client.get("/metrics")).text
        return float(next(line for line in text.splitlines() if line.startswith(name + " ")).split()[1])


@dataclass
class Seen:
    """What the callers saw: seconds of the gateway's own share of each edit, and of each refusal."""

    own: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    left: int = 0


def json_body(size: int = 100_000) -> bytes:
    image = base64.b64encode(PNG + random.randbytes(size - len(PNG))).decode()
    return json.dumps({"image": {"image": image}, "prompt": "make it snow"}).encode()


async def caller(process: Process, seen: Seen, end: float, leaving: float, ids: Iterable[int]) -> None:
    """Ask, wait as told, and ask again until `end`; leave midway with the probability `leaving`."""
    mine = json_body()
    await asyncio.sleep(random.random())
    for number in ids:
        if time.perf_counter() > end:
            return
        headers = {"Content-Type": "application/json", "X-Request-Id": f"load-{number}"}
        start = time.perf_counter()
        timeout = random.uniform(0.2, 3) if random.random() < leaving else 120
        try:
            answer = await process.client.post("/v1/images/edits", content=mine, headers=headers, timeout=timeout)
        except httpx.TimeoutException:
            seen.left += 1
            continue
        except httpx.TransportError as error:
            seen.wrong.append(type(error).__name__)
            continue
        took = time.perf_counter() - start
        if answer.status_code == 200:
            seen.own.append(took - process.triton.took.pop(answer.headers["X-Request-Id"], took))
        elif answer.status_code == 429 and "Retry-After" in answer.headers:
            seen.refused.append(took)
            await asyncio.sleep(float(answer.headers["Retry-After"]) + random.random())  # both SDKs add some, too
        else:
            seen.wrong.append(str(answer.status_code))


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98] if len(values) > 1 else 0.0


class Bounds:
    """Prints metrics beside their bounds, and remembers whether all were met."""

    met = True

    def show(self, name: str, value: float, bound: str, right: bool) -> None:
        self.met &= right
        print(f"{name:<44}{value:>10.3f}   {bound:<12}{'ok' if right else 'NOT MET'}", flush=True)


async def loaded(process: Process, bounds: Bounds, callers: int, seconds: float, leaving: float = 0) -> None:
    """So many callers at once, for so long."""
    seen, ids = Seen(), itertools.count()
    start = time.perf_counter()
    await asyncio.gather(*(caller(process, seen, start + seconds, leaving, ids) for _ in range(callers)))
    rate = len(seen.own) / (time.perf_counter() - start)
    print(f"{callers} callers: {len(seen.own)} edits, {len(seen.refused)} refusals, {seen.left} left")
    bounds.show("answers other than 200 and 429", len(seen.wrong), "= 0", not seen.wrong)
    if not leaving:
        bounds.show("throughput / capacity", rate / CAPACITY, ">= 0.95", rate / CAPACITY >= 0.95)
    bounds.show("gateway's own share, p99 ms", p99(seen.own) * 1000, "< 250", p99(seen.own) < 0.25)
    bounds.show("refusals, p99 ms", p99(seen.refused) * 1000, "< 100", p99(seen.refused) < 0.1)


async def bodies(process: Process, bounds: Bounds) -> None:
    """Eight pictures of 50 MiB at once, and whether the gateway stays small and awake."""
    large, waits = json_body(50 * MIB), []
    headers = {"Content-Type": "application/json"}
    edits = [
        asyncio.ensure_future(process.client.post("/v1/images/edits", content=large, headers=headers)) for _ in range(8)
    ]
    while not all(edit.done() for edit in edits):
        start = time.perf_counter()
        probe = await asyncio.create_subprocess_exec(
            "curl", "-s", "-o", "/dev/null", "-w", "%{time_total}", process.url + "/livez", stdout=-1
        )
        waits.append(float((await probe.communicate())[0]))
        await asyncio.sleep(max(0.0, 0.02 - (time.perf_counter() - start)))
    statuses = [(await edit).status_code for edit in edits]
    wrong = [one for one in statuses if one not in (200, 429)]
    print(f"8 bodies of 50 MiB: answers {statuses}, {len(waits)} probes of /livez")
    bounds.show("answers other than 200 and 429", len(wrong), "= 0", not wrong)
    bounds.show("largest resident set, MiB", process.resident("VmHWM"), "< 1500", process.resident("VmHWM") < 1500)
    bounds.show("/livez p99 ms", p99(waits) * 1000, "< 200", p99(waits) < 0.2)


async def leavers(process: Process, bounds: Bounds, seconds: float) -> None:
    """A fifth of the callers leave midway, for a long time."""
    await loaded(process, bounds, 20, min(30, seconds), leaving=0.2)
    await asyncio.sleep(10)
    resident, descriptors = process.resident(), process.descriptors()
    await loaded(process, bounds, 20, seconds, leaving=0.2)
    await asyncio.sleep(10)
    grown = process.resident() - resident
    bounds.show("resident growth, MiB", grown, "< 50", grown < 50)
    flight = await process.gauge("tritouch_gateway_edits_in_flight")
    bounds.show("edits in flight at the end", flight, "= 0", flight == 0)
    more = process.descriptors() - descriptors
    bounds.show("descriptors more than at the start", more, "<= 2", more <= 2)


def main() -> int:
    """Runs one scenario. Returns 1 when a bound is not met."""
    parser = argparse.ArgumentParser(prog="bench load", description=__doc__)
    parser.add_argument("scenario", choices=["saturated", "triple", "bodies", "leavers"])
    parser.add_argument("--seconds", type=float, help="how long (default: 180, of leavers 1200)")
    options = parser.parse_args()
    return asyncio.run(measure(options.scenario, options.seconds))


async def measure(scenario: str, seconds: float | None) -> int:
    """One scenario, for so long. Returns the exit code."""
    bounds = Bounds()
    async with Process() as process:
        if scenario == "bodies":
            await bodies(process, bounds)
        elif scenario == "leavers":
            await leavers(process, bounds, seconds or 1200)
        else:
            await loaded(process, bounds, 50 if scenario == "saturated" else 150, seconds or 180)
    return 0 if bounds.met else 1


if __name__ == "__main__":
    raise SystemExit(main())
