"""Whom a balancer sends an edit to, as Envoy does: it knows what it has sent itself, and nothing else of replicas."""

import random
from collections.abc import Hashable, Sequence
from typing import TypeVar

POLICIES = ("least request", "round robin", "random")
R = TypeVar("R", bound=Hashable)


class Balancer:
    """One Envoy. `choices`: of how many replicas, drawn with repetition, least request takes the least busy one."""

    def __init__(self, policy: str, draw: random.Random, choices: int = 2) -> None:
        self._pick_place = {
            "least request": self._least_request,
            "round robin": self._round_robin,
            "random": self._random,
        }[policy]
        self._draw, self._choices, self._next = draw, choices, draw.randrange(1 << 16)
        self._active: dict[Hashable, int] = {}

    def pick(self, replicas: Sequence[R]) -> R:
        """One of these, of which there is at least one."""
        return replicas[self._pick_place(replicas)]

    def sent(self, replica: Hashable) -> None:
        """An edit is on its way there."""
        self._active[replica] = self._active.get(replica, 0) + 1

    def returned(self, replica: Hashable) -> None:
        """It is no longer."""
        self._active[replica] -= 1

    def _random(self, replicas: Sequence[Hashable]) -> int:
        return self._draw.randrange(len(replicas))

    def _round_robin(self, replicas: Sequence[Hashable]) -> int:
        self._next += 1
        return self._next % len(replicas)

    def _least_request(self, replicas: Sequence[Hashable]) -> int:
        places = [self._random(replicas) for _ in range(self._choices)]
        return min(places, key=lambda place: self._active.get(replicas[place], 0))
