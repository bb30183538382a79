"""Replicas behind balancers: edits sent, sent again, answered, refused or lost; pods that die, start and drain."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.simulation.balancing import Balancer
from bench.simulation.clock import Clock
from bench.simulation.edits import Edit
from bench.simulation.profile import Profile
from bench.simulation.replica import Replica
from bench.simulation.scaling import Autoscaler, Scaling

SAMPLE_SECONDS = 5.0


@dataclass(frozen=True)
class Setting:
    """A fleet of `replicas`, or of as many as `scaling` says from then on.

    `balancers` share the edits by chance, and know nothing of one another. An edit whose replica refuses it or dies is
    sent up to `tries` times in all, after a random part of `back_off_seconds` x (2^n - 1), of `most_seconds` at most
    (Envoy's fully jittered back-off). A stream that has had a step is not sent again, and with `resend` false nothing
    that a dead pod held is. At each of `deaths` (seconds) a pod ends at once; balancers go on sending to it for
    `notice_seconds`, and another is there `start_seconds` later.
    """

    replicas: int
    policy: str = "least request"
    choices: int = 2
    balancers: int = 1
    tries: int = 9
    back_off_seconds: float = 0.1
    most_seconds: float = 2.0
    resend: bool = True
    deaths: tuple[float, ...] = ()
    notice_seconds: float = 2.0
    start_seconds: float = 120.0
    scaling: Scaling | None = None


@dataclass(frozen=True)
class Sample:
    """The fleet at one moment: replicas that take edits, pods (those that start included), edits in flight."""

    at: float
    serving: int
    pods: int
    in_flight: int


@dataclass
class Seen:
    """All that has happened."""

    edits: list[Edit]
    replicas: list[Replica]
    samples: list[Sample]
    settled: int = 0
    """Edits that have come to their outcome."""
    resent: int = 0
    """How often an edit was sent again because a pod had died."""
    wasted_steps: int = 0
    """Steps that dead pods had made of edits they held."""
    arrivals_end: float = 0.0
    utilisation: float = 0.0
    """Share of the replicas' time in turns, until the last edit arrived."""


class Fleet:
    """Runs once. Equal seeds give equal runs."""

    def __init__(self, profile: Profile, setting: Setting, seed: int) -> None:
        self._profile, self._setting, self._clock = profile, setting, Clock()
        self._draw = random.Random(seed)  # noqa: S311 - guards nothing
        self._balancers = [
            Balancer(setting.policy, self._draw, setting.choices) for _ in range(max(1, setting.balancers))
        ]
        self._sent_by: dict[Edit, Balancer] = {}
        self._endpoints: list[Replica] = []  # as the balancers know them
        self._starting = self._unsettled = 0
        self._arriving = True
        self._seen = Seen([], [], [])
        self._autoscaler = Autoscaler(setting.scaling) if setting.scaling else None

    def run(self, edits: Iterator[Edit]) -> Seen:
        """Until every one of these, which come in the order of their arrivals, is answered, refused or lost."""
        for _ in range(self._setting.replicas):
            self._serve_one()
        for at in self._setting.deaths:
            self._clock.after(at, self._kill)
        self._clock.after(0, self._sample)
        if self._setting.scaling:
            self._clock.after(self._setting.scaling.poll_seconds, self._look)
        self._await_next(edits)
        self._clock.run()
        return self._seen

    def _await_next(self, edits: Iterator[Edit]) -> None:
        edit = next(edits, None)
        if edit:
            self._clock.after(edit.arrived - self._clock.now, self._arrive, edit, edits)
            return
        self._arriving, self._seen.arrivals_end = False, self._clock.now
        self._seen.utilisation = utilisation(self._seen.replicas, self._clock.now)

    def _arrive(self, edit: Edit, edits: Iterator[Edit]) -> None:
        self._seen.edits.append(edit)
        self._unsettled += 1
        self._send(edit)
        self._await_next(edits)

    def _send(self, edit: Edit) -> None:
        edit.sent += 1
        balancer = self._balancers[self._draw.randrange(len(self._balancers))]
        if self._endpoints:
            replica = balancer.pick(self._endpoints)
            if replica.alive and replica.submit(edit):
                balancer.sent(replica)
                self._sent_by[edit] = balancer
                return
        self._send_again(edit)

    def _send_again(self, edit: Edit) -> None:
        if edit.sent >= self._setting.tries:
            self._settle(edit, "refused")
            return
        most = min(self._setting.back_off_seconds * (2**edit.sent - 1), self._setting.most_seconds)
        self._clock.after(self._draw.random() * most, self._send, edit)

    def _answered(self, replica: Replica, edit: Edit) -> None:
        self._sent_by.pop(edit).returned(replica)
        self._settle(edit, "answered")

    def _settle(self, edit: Edit, outcome: str) -> None:
        edit.outcome, edit.seconds = outcome, self._clock.now - edit.arrived + self._profile.front_seconds
        self._unsettled -= 1
        self._seen.settled += 1

    def _serve_one(self) -> None:
        replica = Replica(self._clock, self._profile, self._answered)
        self._endpoints.append(replica)
        self._seen.replicas.append(replica)

    def _start(self) -> None:
        seconds = (self._setting.scaling or self._setting).start_seconds
        self._starting += 1
        self._clock.after(seconds, self._started)

    def _started(self) -> None:
        self._starting -= 1
        self._serve_one()

    def _kill(self) -> None:
        living = [replica for replica in self._endpoints if replica.alive]
        if not living:
            return
        dead = living[self._draw.randrange(len(living))]
        for edit in dead.kill():
            self._sent_by.pop(edit).returned(dead)
            made = edit.plan.steps - edit.left
            self._seen.wasted_steps += made
            if not self._setting.resend or (edit.streamed and made):
                self._settle(edit, "lost")
            else:
                self._seen.resent += 1
                self._send_again(edit)
        self._clock.after(self._setting.notice_seconds, self._endpoints.remove, dead)
        self._start()

    def _look(self) -> None:
        if self._autoscaler is None or not (self._arriving or self._unsettled):
            return
        pods = self._serving() + self._starting
        wanted = self._autoscaler.look(self._clock.now, self._held(), pods)
        for _ in range(wanted - pods):
            self._start()
        serving = [replica for replica in self._endpoints if replica.alive]
        for newest in serving[max(1, len(serving) - max(0, pods - wanted)) :]:
            self._endpoints.remove(newest)
            newest.drain()
        self._clock.after(self._autoscaler.rule.poll_seconds, self._look)

    def _serving(self) -> int:
        return sum(replica.alive for replica in self._endpoints)

    def _held(self) -> int:
        return sum(len(replica.held) for replica in self._seen.replicas if replica.alive)

    def _sample(self) -> None:
        serving = self._serving()
        self._seen.samples.append(Sample(self._clock.now, serving, serving + self._starting, self._held()))
        if self._arriving or self._unsettled:
            self._clock.after(SAMPLE_SECONDS, self._sample)


def utilisation(replicas: Sequence[Replica], until: float) -> float:
    """Seconds in turns over seconds of life."""
    life = sum(max(0.0, min(replica.ended, until) - replica.began) for replica in replicas)
    return sum(replica.busy for replica in replicas) / life if life else 0.0
