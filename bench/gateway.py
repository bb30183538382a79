"""How many small edits a second one gateway process does, before stub Tritons that answer at once.

    python -m bench gateway [--requests N] [--callers N] [--tritons N] [--profile]

Callers keep their connections, and each asks again as soon as it is answered. What a process can sustain follows from
the processor time that it takes for a request, of which one process has one core: that figure holds on a machine with
other work, too, where fewer requests are counted. `--profile` says which functions take it.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import pstats
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bench.stub_triton import picture

TICKS = os.sysconf("SC_CLK_TCK")
ROWS = 25
SLICES = 5
"""Parts of the run whose rate, processor time and memory are told one by one."""


@dataclass
class Gateway:
    """A gateway that runs: its port and its process."""

    port: int
    pid: int

    def seconds(self) -> float:
        """Processor time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident(self) -> float:
        """Resident memory in MiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text("utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


@asynccontextmanager
async def stubs(number: int) -> AsyncIterator[list[int]]:
    """So many stub Tritons, each a process; yields their ports."""
    command = [sys.executable, "-m", "bench.stub_triton"]
    processes = [await asyncio.create_subprocess_exec(*command, stdout=-1) for _ in range(number)]
    try:
        yield [int(await one.stdout.readline()) for one in processes if one.stdout]
    finally:
        for one in processes:
            one.kill()
            await one.wait()


@asynccontextmanager
async def running(ports: list[int], profile: Path | None) -> AsyncIterator[Gateway]:
    """A gateway before these Tritons, once it is ready; ended in good order."""
    mine = {"TRITOUCH_TRITON_GRPC": ",".join(f"127.0.0.1:{port}" for port in ports), "TRITOUCH_MAX_EDITS": "256"}
    measured = ["-m", "cProfile", "-o", str(profile)] if profile else []
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        command = [sys.executable, *measured, "-m", "gateway", "--fd", str(listening.fileno())]
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | mine, pass_fds=[listening.fileno()], stdout=asyncio.subprocess.DEVNULL
        )
        gateway = Gateway(listening.getsockname()[1], process.pid)
    try:
        await asked(gateway.port, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n", 1)
        yield gateway
    finally:
        process.terminate()
        await process.wait()


async def asked(port: int, request: bytes, times: int) -> list[float]:
    """The seconds of each of so many requests on one connection. Raises ValueError for an answer that is not 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took = []
    for _ in range(times):
        start = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        if not head.startswith(b"http/1.1 200"):
            raise ValueError(head.partition(b"\r\n")[0].decode())
        took.append(time.perf_counter() - start)
    writer.close()
    return took


def edit_request() -> bytes:
    """A small edit as a caller sends it."""
    image = base64.b64encode(picture()).decode()
    body = json.dumps({"image": {"image": image}, "prompt": "make it night", "seed": 7, "num_inference_steps": 20})
    head = "POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def measure(gateway: Gateway, requests: int, callers: int) -> list[float]:
    """Prints a line for each part of the run. Returns the processor's milliseconds a request of each."""
    request, spent = edit_request(), []
    await asyncio.gather(*(asked(gateway.port, request, 20) for _ in range(callers)))
    print(f"{'requests':>10}{'a second':>10}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>9}{'1 / cpu':>9}{'MiB':>8}")
    for part in range(SLICES):
        began, before, each = time.perf_counter(), gateway.seconds(), requests // SLICES // callers
        lists = await asyncio.gather(*(asked(gateway.port, request, each) for _ in range(callers)))
        took = [*chain.from_iterable(lists)]
        wall, cpu = time.perf_counter() - began, (gateway.seconds() - before) / len(took)
        tail = statistics.quantiles(took, n=100)
        print(
            f"{(part + 1) * len(took):>10}{len(took) / wall:>10.0f}{tail[49] * 1e3:>9.1f}{tail[98] * 1e3:>9.1f}"
            f"{cpu * 1e3:>9.2f}{1 / cpu:>9.0f}{gateway.resident():>8.1f}",
            flush=True,
        )
        spent.append(cpu * 1e3)
    return spent


async def run(options: argparse.Namespace, profile: Path | None) -> None:
    """The whole bench."""
    async with stubs(options.tritons) as ports, running(ports, profile) as gateway:
        spent = await measure(gateway, options.requests, options.callers)
    middle = statistics.median(spent)
    print(f"\n{middle:.2f} ms of the processor a request: {1e3 / middle:.0f} requests a second of one process")


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--tritons", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="which functions take the time; itself takes some")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "profile") if options.profile else None
        asyncio.run(run(options, profile))
        if profile:
            said = io.StringIO()
            pstats.Stats(str(profile), stream=said).sort_stats("tottime").print_stats(ROWS)
            print(said.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main())
