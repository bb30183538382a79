"""What is asked of a fleet: kinds of edits by their shares, and when they arrive."""

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.simulation.profile import Profile

_KIND = re.compile(r"(\d+)x(\d+)(?:@(\d+))?:(\d*\.?\d+)")
DEFAULT_TOKENS = 1024


class MixError(ValueError):
    """What is wrong with a mix, in one line."""


@dataclass(frozen=True)
class Kind:
    """Edits of so many steps and rows a call, each row of so many tokens: those of equal tokens may share calls."""

    steps: int
    rows: int
    tokens: int
    share: float


@dataclass(frozen=True)
class Priority:
    """Of a request, as the batcher's choosing asks for it."""

    low: bool = False


NORMAL = Priority()


@dataclass(eq=False, slots=True)
class Edit:
    """One edit on its way. What the batcher's choosing asks of a job is `group`, which is all of its `kind`, `rows`,
    `plan`, `request`, and the `lengths` of no axis: none is padded."""

    plan: Kind
    arrived: float
    streamed: bool
    request: Priority = NORMAL
    left: int = field(init=False)
    """Steps that are still to be made."""
    group: int = field(init=False)
    rows: int = field(init=False)
    kind: int = field(init=False)
    lengths: Mapping[str, int] = field(init=False)
    sent: int = 0
    """How often it was sent to a replica."""
    outcome: str = ""
    """`answered`, `refused` or `lost`, once it is."""
    seconds: float = 0.0
    """From its arrival to its answer."""

    def __post_init__(self) -> None:
        self.group, self.rows, self.left = self.plan.tokens, self.plan.rows, self.plan.steps
        self.kind, self.lengths = self.group, {}


def mix(text: str) -> tuple[Kind, ...]:
    """Kinds of `STEPSxROWS[@TOKENS]:SHARE,...`; shares become parts of 1. Raises MixError."""
    found = [_KIND.fullmatch(part.strip()) for part in text.split(",")]
    kinds = [
        Kind(int(one[1]), int(one[2]), int(one[3] or DEFAULT_TOKENS), float(one[4])) for one in found if one is not None
    ]
    whole = sum(kind.share for kind in kinds)
    if None in found or whole <= 0 or any(kind.steps * kind.rows * kind.tokens == 0 for kind in kinds):
        raise MixError(f"a mix is STEPSxROWS:SHARE,... as in 20x1:0.8,50x3:0.2, and not {text!r}")
    return tuple(Kind(kind.steps, kind.rows, kind.tokens, kind.share / whole) for kind in kinds)


def require_fitting(kinds: Sequence[Kind], profile: Profile) -> None:
    """Raises MixError where the batcher would refuse a kind."""
    for kind in kinds:
        if kind.rows > profile.max_rows or kind.rows * kind.tokens > profile.max_tokens:
            most = f"{profile.max_rows} rows and {profile.max_tokens} tokens"
            raise MixError(f"{kind.rows} rows of {kind.tokens} tokens do not fit a call of {most}: change the mix")


def capacity(kinds: Sequence[Kind], profile: Profile) -> float:
    """Edits a second of one replica whose calls are as full as `max_rows` and `max_tokens` allow, encoders included."""
    seconds, work = profile.turn_seconds(), 0.0
    for kind in kinds:
        together = min(profile.max_rows // kind.rows, profile.max_tokens // (kind.rows * kind.tokens))
        work += kind.share * kind.steps * seconds[together * kind.rows] / together
    return 1 / max(work, profile.condition_seconds, profile.render_seconds)


@dataclass(frozen=True)
class Burst:
    """`times` as many arrivals for the first `seconds` of every `every`."""

    times: float = 1.0
    seconds: float = 0.0
    every: float = math.inf
    begins: float = 0.0

    def factor(self, now: float) -> float:
        """Of arrivals at this second."""
        since = now - self.begins
        return self.times if since >= 0 and math.fmod(since, self.every) < self.seconds else 1.0


def arrivals(rate: float, burst: Burst, draw: random.Random) -> Iterator[float]:
    """Seconds of a Poisson process of `rate` a second, thinned to what the burst leaves (Lewis and Shedler, 1979)."""
    most, now = max(1.0, burst.times), 0.0
    while True:
        now += draw.expovariate(rate * most)
        if draw.random() * most < burst.factor(now):
            yield now


def drawn(kinds: Sequence[Kind], times: Iterator[float], streams: float, draw: random.Random) -> Iterator[Edit]:
    """An edit for each time, its kind drawn by share; `streams`: the share of edits that are streams."""
    shares = [kind.share for kind in kinds]
    for at in times:
        (kind,) = draw.choices(kinds, shares)
        yield Edit(kind, at, draw.random() < streams)
