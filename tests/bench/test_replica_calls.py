"""The calls of a simulated replica are those of the real batcher's threads."""

import itertools
import random
import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from batcher import Batcher
from bench.simulation.clock import Clock
from bench.simulation.edits import Edit, Kind
from bench.simulation.profile import BOUNDS, Profile
from bench.simulation.replica import Replica
from rows import Part
from tests.edit.harness import Here, Intake, Metrics, one, plan


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_a_replica_makes_the_calls_of_the_real_batcher(seed: int, calls: int) -> None:
    draw = random.Random(seed)
    max_tokens = draw.choice([10, 20, 1000])
    kinds = [Kind(draw.randint(1, 12), draw.randint(1, 3), draw.choice([1, 2, 3]), 1.0) for _ in range(25)]
    begin = [0, *sorted(draw.randint(0, 30) for _ in kinds)]
    asked = [Kind(60, 1, 4, 1.0), *kinds]  # the first keeps the batcher busy until all are there
    given = Profile(((1.0, 1.0, 1.0),), 0, 0, 0, max_rows=6, max_tokens=max_tokens, max_jobs=99, calls=calls)
    made = _calls_of_replica(given, asked, begin)
    assert made == _calls_of_batcher(given, asked, begin)
    assert sum(map(len, made)) == sum(kind.steps for kind in asked)


def _calls_of_replica(given: Profile, asked: list[Kind], begin: list[int]) -> list[list[int]]:
    clock, calls = Clock(), []
    replica = Replica(clock, given, lambda _replica, _edit: None)
    choose = replica._turns.choose

    def noted(ready: Any) -> Any:
        chosen = choose(ready)
        if chosen:
            calls.append([numbers[edit] for edit in chosen])
        return chosen

    replica._turns.choose = noted
    numbers = {Edit(kind, 0.0, streamed=False): number for number, kind in enumerate(asked)}
    for edit, number in numbers.items():
        clock.after(begin[number] + (0.5 if number else 0.0), replica.submit, edit)
    clock.run()
    return calls


class Held:
    """An engine that computes one call after another, each when it is told to; `made`: the edits of each call."""

    def __init__(self) -> None:
        self.made: list[list[int]] = []
        self.waiting: list[threading.Event] = []

    def __call__(self, parts: Sequence[Part]) -> Sequence[NDArray[Any]]:
        self.made.append([round(float(part.constant["text"][0, 0])) for part in parts])
        told = threading.Event()
        self.waiting.append(told)
        assert told.wait(60), "nobody says that it may compute"
        return [np.zeros((len(part.constant["text"]), 1)) for part in parts]

    def forget(self, group: Hashable) -> None:
        pass


def _calls_of_batcher(given: Profile, asked: list[Kind], begin: list[int]) -> list[list[int]]:
    """Those of its own threads, where nothing happens while the next thing is not yet chosen."""
    engine, done, bounds = Held(), list[Any](), {name: getattr(given, name) for name in BOUNDS}
    batcher = Batcher(engine, metrics=Metrics(), intake=Intake(), preparers=Here(), answerers=Here(), **bounds)

    def settled() -> bool:
        with batcher._changed:
            more = batcher._turns.possible(batcher._ready) and len(engine.waiting) < given.calls
            return len(batcher._turns._under_way) == len(engine.waiting) and not more

    def settle() -> None:
        end = time.monotonic() + 60
        while not settled():
            assert time.monotonic() < end, "a call is not made"
            time.sleep(0.0005)

    def submit(number: int) -> None:
        kind = asked[number]
        text = np.full((kind.rows, kind.tokens), number)  # so that those of other tokens share no call
        made = replace(plan(number, kind.steps, rows=kind.rows, tokens=kind.tokens), constant={"text": text})
        batcher.submit(*one(lambda: made, done.append, done.append))
        settle()

    batcher.start()
    submit(0)
    for ended in itertools.count():
        for number in (number for number, at in enumerate(begin) if number and at == ended):
            submit(number)
        if not engine.waiting:
            break
        engine.waiting.pop(0).set()
        settle()
    batcher.stop()
    assert len(done) == len(asked)
    return engine.made
