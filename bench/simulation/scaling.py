"""How many replicas KEDA has: the rule of Kubernetes' HorizontalPodAutoscaler for an average value, which KEDA feeds.

Source: Kubernetes' documentation, "Horizontal Pod Autoscaling" (algorithm, tolerance, default scaling behaviour).
"""

import math
from collections import deque
from dataclasses import dataclass

TOLERANCE = 0.1
UP_PODS, UP_SHARE, UP_SECONDS = 4, 1.0, 15.0
"""Of replicas, the more of both may be added within so many seconds."""


@dataclass(frozen=True)
class Down:
    """Of replicas the more of both, `pods` and a `share`, may be taken away within so many seconds.

    Nothing is taken away that was wanted within `window_seconds`.
    """

    pods: int = 1
    share: float = 0.0
    seconds: float = 60.0
    window_seconds: float = 300.0


@dataclass(frozen=True)
class Scaling:
    """`threshold`: edits in flight a replica that are aimed at.

    `poll_seconds`: between two looks; what is seen is `age_seconds` old. `start_seconds`: from a pod's making until it
    is sent edits.
    """

    least: int
    most: int
    threshold: float
    poll_seconds: float = 15.0
    age_seconds: float = 15.0
    start_seconds: float = 120.0
    down: Down = Down()


class Autoscaler:
    """Says after each look how many replicas there shall be."""

    def __init__(self, rule: Scaling) -> None:
        self.rule = rule
        self._seen: deque[tuple[float, int]] = deque()  # when, and edits in flight
        self._wanted: deque[tuple[float, int]] = deque()  # when, and replicas
        self._grown: deque[tuple[float, int]] = deque()  # when, and replicas that were added
        self._shrunk: deque[tuple[float, int]] = deque()  # when, and replicas that were taken away

    def look(self, now: float, in_flight: int, replicas: int) -> int:
        """`replicas`: those that there are, starting ones included."""
        wanted = self._desired(self._aged(now, in_flight), replicas)
        while self._wanted and self._wanted[0][0] <= now - self.rule.down.window_seconds:
            self._wanted.popleft()
        self._wanted.append((now, wanted))
        if wanted > replicas:
            wanted = min(wanted, self._up_to(now, replicas))
            self._grown.append((now, wanted - replicas))
            return wanted
        least = max(most for _, most in self._wanted)
        left = min(replicas, max(least, self._down_to(now, replicas)))
        self._shrunk.append((now, replicas - left))
        return left

    def _aged(self, now: float, in_flight: int) -> int:
        self._seen.append((now, in_flight))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self.rule.age_seconds:
            self._seen.popleft()
        return self._seen[0][1]

    def _desired(self, in_flight: int, replicas: int) -> int:
        ratio = in_flight / (self.rule.threshold * replicas) if replicas else math.inf
        if abs(ratio - 1) <= TOLERANCE:
            return replicas
        return min(self.rule.most, max(self.rule.least, math.ceil(in_flight / self.rule.threshold)))

    def _up_to(self, now: float, replicas: int) -> int:
        while self._grown and self._grown[0][0] <= now - UP_SECONDS:
            self._grown.popleft()
        before = replicas - sum(count for _, count in self._grown)
        return max(replicas, before + max(UP_PODS, math.floor(UP_SHARE * before)))

    def _down_to(self, now: float, replicas: int) -> int:
        down = self.rule.down
        while self._shrunk and self._shrunk[0][0] <= now - down.seconds:
            self._shrunk.popleft()
        before = replicas + sum(count for _, count in self._shrunk)
        return min(before - down.pods, math.floor(before * (1 - down.share)))
