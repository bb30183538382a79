"""A fleet under load, through all that becomes of replicas. Nobody's edit is lost, or computed twice without need."""

import base64
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tests.containers.engine import eventually
from tests.fleet.callers import SEEDS, SMALL, Answer, Load, edit, load
from tests.fleet.fleet import Fleet, Replica
from tests.server.asking import psnr

EDITS = 1000
EVEN = 0.2
"""How far from its even share a replica may be."""
DNS_SECONDS = 2.0
"""How long Envoy still has the address of a replica that is dead."""
PAUSE_SECONDS = 1.0
"""Until what was on its way is done, or has arrived."""
FROZEN_SECONDS = 10.0
LOG = logging.getLogger(__name__)


def finished(calls: list[dict[str, Any]]) -> Counter[str]:
    """Edits that were answered, by the replica that did."""
    return Counter(call["triton"] for call in calls if call["grpc"] == "OK")


class Storm:
    """What happens to the replicas, one thing after the other; what each has begun is counted as it goes."""

    def __init__(self, fleet: Fleet, load: Load) -> None:
        self.fleet, self.load = fleet, load
        self.begun: dict[str, Counter[str]] = {}
        self.since = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.killed: Replica | None = None

    def kill(self) -> None:
        """One dies, and is an endpoint for a while yet."""
        self.killed = self.fleet.hosts[0]
        self.killed.kill()
        time.sleep(DNS_SECONDS)
        self.fleet.leave(self.killed)

    def add(self) -> None:
        """One comes, and is used."""
        (new,) = self.fleet.start()
        self.fleet.enter(new)
        begin = time.monotonic()
        eventually(lambda: sum(new.begun().values()) > 0, "the new replica is not used")
        LOG.info("a new replica was used after %.1f s", time.monotonic() - begin)

    def freeze(self) -> None:
        """One stands still, gets nothing more, and is used again when it goes on."""
        frozen = self.fleet.hosts[0]
        before = sum(frozen.begun().values())
        with frozen.frozen():
            end = time.monotonic() + FROZEN_SECONDS
            eventually(lambda: frozen.address not in self.fleet.envoy.healthy("tritons"), "nobody sees it stand still")
            assert edit(self.load.url, SMALL, 0, streamed=False).code == "ok", "others are there"
            time.sleep(max(0.0, end - time.monotonic()))
        eventually(lambda: sum(frozen.begun().values()) > before, "it is not used again")

    def replace(self, replica: Replica) -> None:
        """A new one comes before it goes."""
        self.add()
        self.drain(replica)

    def drain(self, replica: Replica) -> None:
        """One leaves as a pod does: it is no endpoint, gets SIGTERM after a pause, and finishes what it has."""
        with self.fleet.slow():
            time.sleep(PAUSE_SECONDS)
            eventually(lambda: replica.begun()["in flight"] > 0, "it has no edit")
            self.fleet.leave(replica)
            time.sleep(PAUSE_SECONDS)
            self.begun[replica.address] = replica.begun()
        LOG.info("a replica is told to stop: %s", dict(self.begun[replica.address]))
        assert self.begun[replica.address]["in flight"] > 0
        replica.stop()


def test_a_storm_loses_no_edit_and_computes_none_twice(fleet: Fleet) -> None:
    first = list(fleet.hosts)
    with load(fleet.url, unary=6, streams=3) as callers:
        storm = Storm(fleet, callers)
        callers.more(600)
        assert_even(finished(fleet.calls()), [one.address for one in first])
        storm.kill()
        callers.more(20)
        storm.add()
        storm.freeze()
        storm.replace(first[1])
        storm.replace(first[2])
        callers.more(max(20, EDITS - len(callers.answers)))
    assert_answered(callers.answers)
    assert_computed_once(fleet, storm)


def assert_even(served: Counter[str], addresses: list[str]) -> None:
    """Each has its share of the edits, or nearly."""
    LOG.info("edits by replica: %s", sorted(served.values()))
    share = served.total() / len(addresses)
    assert all(abs(served[address] - share) <= EVEN * share for address in addresses), served


def assert_answered(answers: list[Answer]) -> None:
    """Every unary edit at its first sending, every stream but those that had begun where a replica was killed."""
    codes = {kind: Counter(one.code for one in answers if one.streamed is kind) for kind in (False, True)}
    LOG.info("unary edits: %s, streams: %s", dict(codes[False]), dict(codes[True]))
    assert len(answers) >= EDITS
    assert set(codes[False]) == {"ok"}
    assert set(codes[True]) <= {"ok", "unavailable"}
    assert codes[True]["unavailable"] <= 3, "more than there are callers"
    pictures = defaultdict(list)
    for one in answers:
        if one.code == "ok" and not one.streamed:
            pictures[one.number % SEEDS].append(np.frombuffer(base64.b64decode(one.picture), np.uint8))
    for same in pictures.values():
        assert min(psnr(one, same[0]) for one in same) > 40, "the same seed is the same picture, whoever makes it"


def answered(fleet: Fleet, addresses: Iterable[str]) -> dict[str, int]:
    """Edits that each of these replicas answered, as far as Envoy's log tells."""
    found = finished(fleet.calls())
    return {address: found[address] for address in addresses}


def assert_computed_once(fleet: Fleet, storm: Storm) -> None:
    """What each replica began, it answered; only the killed one began what others answered."""
    assert storm.killed is not None
    for replica in fleet.hosts:
        storm.begun[replica.address] = replica.begun()
    begun = {address: counted.total() for address, counted in storm.begun.items()}
    assert {outcome for counted in storm.begun.values() for outcome in counted} <= {"done", "in flight"}
    # Envoy writes what has ended into its log five times a second.
    eventually(lambda: answered(fleet, begun) == begun, f"{begun} were begun, and others answered")
    calls = fleet.calls()
    calls = [call for call in calls if call["time"] >= storm.since]  # those before are other tests' own
    again = sum(int(call["attempts"]) - 1 for call in calls)
    LOG.info("%d edits were answered, %d were sent a second time", finished(calls).total(), again)
    lost = [call for call in calls if call["grpc"] != "OK"]
    assert {call["triton"] for call in lost} <= {storm.killed.address}
    assert {call["call"].rpartition("/")[2] for call in lost} <= {"ModelStreamInfer"}
