"""How edits are spread over several Tritons: the gateway's least in flight beside grpcio's round robin.

    python -m bench spread [--edits N]

Three stubs do eight edits at once each, of lengths from short to long, at 70 % of what all can do: alike; with one that
is half as fast as the others; and with one that dies midway. All is measured from the moment an edit is sent.
"""

# ruff: noqa: S311 - it is a command-line tool, and its randomness guards nothing

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import grpc
from tritonclient.grpc import service_pb2

from bench.stub_triton import StubTriton
from gateway.deadline import Deadline
from gateway.errors import PublicError
from gateway.spread import Spread
from gateway.tensors import Ask

SLOTS, SECONDS, LOAD, TRITONS = 8, 0.3, 0.7, 3
INFER = "/inference.GRPCInferenceService/ModelInfer"
RETRIES = {"maxAttempts": 2, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2}
Sender = Callable[[bytes], Awaitable[object]]


@asynccontextmanager
async def least_in_flight(ports: Sequence[int]) -> AsyncIterator[Sender]:
    """As the gateway sends edits."""
    async with Spread([f"127.0.0.1:{port}" for port in ports]) as spread:
        yield lambda request: spread.edit(Ask(request, "jpeg", 1), Deadline(60))


@asynccontextmanager
async def round_robin(ports: Sequence[int]) -> AsyncIterator[Sender]:
    """As grpcio does by itself, with the retries that it has."""
    retried = {"name": [{}], "retryPolicy": RETRIES | {"retryableStatusCodes": ["UNAVAILABLE"]}}
    config = json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [retried]})
    options = [("grpc.service_config", config), ("grpc.initial_reconnect_backoff_ms", 200)]
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        infer = channel.unary_unary(INFER, response_deserializer=service_pb2.ModelInferResponse.FromString)
        yield lambda request: infer(request, timeout=60)


POLICIES = {"least in flight": least_in_flight, "round robin": round_robin}


async def sent(send: Sender, edits: int, rate: float, dying: StubTriton | None) -> tuple[list[float], int]:
    """The seconds of each of so many edits that arrive at random, and how many were lost; halfway `dying` does."""
    took, lost = [], 0
    arriving = random.Random(7)

    async def one() -> None:
        nonlocal lost
        start = time.perf_counter()
        try:
            await send(bytes(service_pb2.ModelInferRequest(model_name="edit").SerializeToString()))
        except (PublicError, grpc.aio.AioRpcError):
            lost += 1
        else:
            took.append(time.perf_counter() - start)

    tasks = []
    for number in range(edits):
        tasks.append(asyncio.ensure_future(one()))
        if dying and number == edits // 2:
            await dying.stop()
        await asyncio.sleep(arriving.expovariate(rate))
    await asyncio.gather(*tasks)
    return took, lost


async def case(name: str, edits: int, slow: float, dies: bool) -> None:
    """Prints a line for each policy."""
    for policy, opened in POLICIES.items():
        tritons = [StubTriton(SLOTS, SECONDS * (slow if number == 0 else 1)) for number in range(TRITONS)]
        ports = [await triton.start() for triton in tritons]
        rate = LOAD * SLOTS / SECONDS * (TRITONS - 1 + 1 / slow - dies)
        async with opened(ports) as send:
            took, lost = await sent(send, edits, rate, tritons[-1] if dies else None)
        for triton in tritons:
            await triton.stop()
        tail = [1e3 * value for value in statistics.quantiles(took, n=100)]
        print(f"{name:<22}{policy:<18}{tail[49]:>8.0f}{tail[94]:>8.0f}{tail[98]:>8.0f}{lost:>7}", flush=True)


async def run(edits: int) -> None:
    """All cases."""
    print(f"{'three Tritons':<22}{'policy':<18}{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}{'lost':>7}")
    await case("alike", edits, 1, dies=False)
    await case("one half as fast", edits, 2, dies=False)
    await case("one dies midway", edits, 1, dies=True)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=1000)
    asyncio.run(run(parser.parse_args().edits))
    return 0


if __name__ == "__main__":
    sys.exit(main())
