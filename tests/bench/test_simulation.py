"""Fleets as they are simulated: known results of queueing, the real batcher's calls, and that no edit is forgotten."""

import random
import statistics
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from bench.replica import PROFILE
from bench.simulation import edits, profile
from bench.simulation.balancing import POLICIES, Balancer
from bench.simulation.clock import Clock
from bench.simulation.edits import Burst, Edit, Kind
from bench.simulation.figures import figures, percentile
from bench.simulation.fleet import Fleet, Seen, Setting
from bench.simulation.profile import Profile
from bench.simulation.replica import Replica
from bench.simulation.scaling import Autoscaler, Scaling
from tests.edit.harness import Harness, plan

ONE_BY_ONE = Profile(((1.0, 1.0),), 0, 0, 0, max_rows=1, max_tokens=1 << 20, max_jobs=1 << 20)
"""A queue before a server that takes a second for each step."""
BATCHING = Profile(((1.0, 0.06), (8.0, 0.2)), 0.03, 0.06, 0.01, max_rows=8, max_tokens=1 << 20, max_jobs=16)
MIXED = edits.mix("4x1:0.6,20x1:0.2,8x3:0.2")


def simulated(setting: Setting, rate: float, count: int, given: Profile = BATCHING, **options: Any) -> Seen:
    """So many edits of `mix` at `rate` a second."""
    draw = random.Random(1)
    kinds, streams, seed = options.get("mix", MIXED), options.get("streams", 0.0), options.get("seed", 0)
    asked = edits.drawn(kinds, edits.arrivals(rate, options.get("burst", Burst()), draw), streams, draw)
    return Fleet(given, setting, seed).run(islice(asked, count))


@pytest.mark.parametrize(("load", "replicas"), [(0.6, 1), (0.6, 4)])
def test_without_batching_a_replica_is_an_m_d_1_queue(load: float, replicas: int) -> None:
    """Pollaczek and Khinchine: of a Poisson process, split by chance, each waits load / (2 (1 - load)) on the mean."""
    seen = simulated(Setting(replicas, "random"), load * replicas, 20_000, ONE_BY_ONE, mix=edits.mix("1x1:1"))
    waited = statistics.mean(edit.seconds - 1 for edit in seen.edits)
    assert waited == pytest.approx(load / (2 * (1 - load)), rel=0.05)
    assert seen.utilisation == pytest.approx(load, rel=0.03)


def test_an_edit_alone_takes_its_stages_and_its_turns() -> None:
    (edit,) = Fleet(BATCHING, Setting(1), 0).run(iter([Edit(Kind(10, 1, 64, 1.0), 5.0, streamed=False)])).edits
    assert edit.seconds == pytest.approx(0.03 + 10 * 0.06 + 0.06 + 0.01)


def test_all_of_a_call_takes_one_turn() -> None:
    kind = Kind(10, 1, 64, 1.0)
    asked = [Edit(kind, 0.0, streamed=False) for _ in range(8)]
    given = replace(BATCHING, condition_seconds=0.0, render_seconds=0.0, front_seconds=0.0)
    seen = Fleet(given, Setting(1), 0).run(iter(asked))
    # The first begins alone, the others join at the second turn, the last turn is of these seven.
    assert max(edit.seconds for edit in seen.edits) == pytest.approx(0.06 + 9 * 0.2 + 0.18)
    assert [replica.calls for replica in seen.replicas] == [11]


@pytest.mark.parametrize("seed", range(12))
def test_a_replica_makes_the_calls_of_the_real_batcher(seed: int) -> None:
    draw = random.Random(seed)
    max_tokens = draw.choice([10, 20, 1000])
    kinds = [Kind(draw.randint(1, 12), draw.randint(1, 3), draw.choice([1, 2, 3]), 1.0) for _ in range(25)]
    begin = [0, *sorted(draw.randint(0, 30) for _ in kinds)]
    asked = [Kind(60, 1, 4, 1.0), *kinds]  # the first keeps the batcher busy until all are there
    given = Profile(((1.0, 1.0),), 0, 0, 0, max_rows=6, max_tokens=max_tokens, max_jobs=99)
    assert _calls_of_replica(given, asked, begin) == _calls_of_batcher(given, asked, begin)


def _calls_of_replica(given: Profile, asked: list[Kind], begin: list[int]) -> list[list[int]]:
    clock, calls = Clock(), []
    replica = Replica(clock, given, lambda _replica, _edit: None)
    choose = replica._turns.choose

    def noted(ready: Any) -> Any:
        chosen = choose(ready)
        calls.append([numbers[edit] for edit in chosen])
        return chosen

    replica._turns.choose = noted
    numbers = {Edit(kind, 0.0, streamed=False): number for number, kind in enumerate(asked)}
    for edit, number in numbers.items():
        clock.after(begin[number] + (0.5 if number else 0.0), replica.submit, edit)
    clock.run()
    return calls


def _calls_of_batcher(given: Profile, asked: list[Kind], begin: list[int]) -> list[list[int]]:
    harness = Harness(max_rows=given.max_rows, max_jobs=given.max_jobs, max_tokens=given.max_tokens)
    calls, denoise = [], harness.batcher._denoiser.__call__

    def noted(parts: Any) -> Any:
        calls.append([round(float(part.constant["text"][0, 0])) for part in parts])
        return denoise(parts)

    harness.batcher._denoiser = type("Noted", (), {"__call__": staticmethod(noted), "forget": lambda *_: None})()
    for turn in range(2000):
        for number, kind in enumerate(asked):
            if begin[number] + bool(number) == turn:
                one = plan(number, kind.steps, rows=kind.rows, key=kind.tokens, tokens=kind.tokens)
                harness.submit(str(number), one)
        harness.turns(1)
        if len(harness.results) == len(asked):
            break
    return calls


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("resend", [True, False])
def test_every_edit_comes_to_one_outcome(policy: str, resend: bool) -> None:
    """While replicas are full, die, start and are taken away."""
    scaling = Scaling(2, 6, threshold=6, poll_seconds=5, age_seconds=5, start_seconds=10, down_seconds=5)
    setting = Setting(3, policy, deaths=(20.0, 40.0, 60.0, 61.0), resend=resend, notice_seconds=2, scaling=scaling)
    seen = simulated(setting, 15.0, 2000, streams=0.3, burst=Burst(3, 20, 60))
    found = figures(seen)
    assert seen.settled == found.edits == 2000
    assert found.answered + found.refused + found.lost == 2000
    assert min(found.answered, found.refused, found.lost) > 0, "the case has all three"
    assert not any(replica.held for replica in seen.replicas if replica.alive)
    assert (found.resent > 0) is resend


def test_what_a_dead_pod_held_is_answered_by_another_but_for_streams_that_have_begun() -> None:
    setting = Setting(4, deaths=(10.0, 20.0, 30.0, 40.0, 50.0), start_seconds=5)
    unary, streams = (simulated(setting, 10.0, 600, streams=share) for share in (0.0, 1.0))
    assert (figures(unary).lost, figures(unary).refused) == (0, 0)
    assert figures(unary).resent > figures(streams).resent
    assert figures(unary).wasted_steps > 0
    lost = [edit for edit in streams.edits if edit.outcome == "lost"]
    assert lost
    assert all(edit.left < edit.plan.steps and edit.streamed for edit in lost)


def test_the_more_choices_the_more_a_dead_pod_attracts_until_it_is_noticed() -> None:
    refused = [
        figures(simulated(Setting(6, choices=choices, deaths=(10.0,), notice_seconds=20), 15.0, 800)).refused
        for choices in (2, 12)
    ]
    assert refused[0] < refused[1] / 2


def test_edits_of_uneven_length_wait_least_where_the_least_busy_is_asked() -> None:
    kinds = edits.mix("1x1:0.9,20x1:0.1")
    rate = 8 * 0.7 / sum(kind.share * kind.steps for kind in kinds)
    p95 = [
        figures(simulated(Setting(8, policy), rate, 4000, ONE_BY_ONE, mix=kinds)).p95
        for policy in ("least request", "round robin", "random")
    ]
    assert p95 == sorted(p95)
    assert p95[0] < 0.8 * p95[2]


def test_equal_seeds_give_equal_runs() -> None:
    runs = [figures(simulated(Setting(5, deaths=(9.0,)), 12.0, 500, seed=seed)) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_replica_takes_as_many_as_it_has_places_for() -> None:
    replica = Replica(Clock(), BATCHING, lambda _replica, _edit: None)
    taken = [replica.submit(Edit(MIXED[0], 0.0, streamed=False)) for _ in range(18)]
    assert taken == [True] * 16 + [False] * 2


def test_a_replica_that_drains_answers_what_it_holds() -> None:
    clock, answered = Clock(), []
    replica = Replica(clock, BATCHING, lambda _replica, edit: answered.append(edit))
    held = [Edit(kind, 0.0, streamed=False) for kind in MIXED]
    for edit in held:
        replica.submit(edit)
    replica.drain()
    assert replica.alive
    clock.run()
    assert set(answered) == set(held)
    assert (replica.alive, replica.ended) == (False, clock.now)


def test_of_two_replicas_least_request_takes_the_one_with_less_under_way() -> None:
    balancer = Balancer("least request", random.Random(0), choices=16)
    for _ in range(3):
        balancer.sent("busy")
    balancer.sent("idle")
    assert {balancer.pick(["busy", "idle"]) for _ in range(20)} == {"idle"}
    for _ in range(3):
        balancer.returned("busy")
    assert {balancer.pick(["busy", "idle"]) for _ in range(20)} == {"busy"}


def test_round_robin_goes_round() -> None:
    balancer = Balancer("round robin", random.Random(0))
    picked = [balancer.pick("abc") for _ in range(9)]
    assert sorted(picked[:3]) == ["a", "b", "c"]
    assert picked[:3] == picked[3:6] == picked[6:]


@pytest.mark.parametrize(
    ("in_flight", "replicas", "wanted"),
    [
        (43, 4, 4),  # within a tenth of 10 for each
        (45, 4, 5),
        (200, 4, 8),  # twice as many in 15 s, or 4 more
        (20, 1, 2),
        (200, 1, 5),
        (5000, 40, 50),  # and no more than `most`
    ],
)
def test_replicas_are_added_by_the_rule(in_flight: int, replicas: int, wanted: int) -> None:
    assert Autoscaler(Scaling(1, 50, threshold=10, age_seconds=0)).look(0.0, in_flight, replicas) == wanted


def test_growth_is_bounded_within_any_15_seconds() -> None:
    scaler = Autoscaler(Scaling(1, 100, threshold=1, age_seconds=0))
    assert [scaler.look(at, 100, pods) for at, pods in ((0.0, 1), (5.0, 5), (15.0, 5), (31.0, 10))] == [5, 5, 10, 20]


def test_replicas_are_taken_away_one_by_one_and_not_before_the_window_is_over() -> None:
    scaler = Autoscaler(Scaling(2, 9, threshold=10, age_seconds=0, down_seconds=300))
    pods, seen = 5, []
    scaler.look(0.0, 50, pods)
    for minute in range(1, 17):
        pods = scaler.look(60.0 * minute, 0, pods)
        seen.append(pods)
    assert seen == [5, 5, 5, 5, 4, 4, 4, 4, 4, 3, 3, 3, 3, 3, 2, 2]


def test_what_keda_sees_is_as_old_as_it_is_told() -> None:
    scaler = Autoscaler(Scaling(1, 50, threshold=10, age_seconds=15))
    scaler.look(0.0, 10, 1)
    assert scaler.look(10.0, 50, 1) == 1
    assert scaler.look(25.0, 50, 1) == 5


def test_a_burst_brings_so_many_times_as_many() -> None:
    times = list(islice(edits.arrivals(50.0, Burst(4, 10, 100, begins=10), random.Random(2)), 20_000))
    inside = sum(at >= 10 and (at - 10) % 100 < 10 for at in times) / len(times)
    assert inside == pytest.approx(4 * 10 / (4 * 10 + 90), rel=0.04)


@pytest.mark.parametrize(("count", "place"), [(1, 0), (19, 18), (20, 18), (100, 94)])
def test_the_95th_percentile_is_one_of_the_values(count: int, place: int) -> None:
    assert percentile([float(n) for n in range(count)], 95) == float(place)


def test_turns_between_measured_rows_are_interpolated_and_go_on_beyond_them() -> None:
    given = replace(BATCHING, turns=((1.0, 0.1), (3.0, 0.3), (4.0, 0.36)), max_rows=6)
    assert given.turn_seconds() == pytest.approx((0.1, 0.1, 0.2, 0.3, 0.36, 0.42, 0.48))


def test_the_published_profile_is_one() -> None:
    seconds = profile.read(PROFILE).turn_seconds()
    assert list(seconds) == sorted(seconds)


GOOD: dict[str, Any] = {
    "turns": [[1, 0.1], [2, 0.2]],
    **dict.fromkeys(profile.SECONDS, 0.1),
    **dict.fromkeys(profile.BOUNDS, 8),
}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("turns", [], "pairs of rows and seconds"),
        ("turns", [[1, 0.1, 2]], "pairs of rows and seconds"),
        ("turns", [[1, 0]], "all above 0"),
        ("turns", [[2, 0.1], [1, 0.2]], "rise in rows"),
        ("front_seconds", -1, "front_seconds must be a number of seconds"),
        ("render_seconds", "1", "render_seconds must be a number of seconds"),
        ("max_rows", 0, "max_rows must be a whole number from 1"),
        ("max_jobs", 1.5, "max_jobs must be a whole number from 1"),
        ("max_tokens", True, "max_tokens must be a whole number from 1"),
    ],
)
def test_a_profile_that_is_none_says_what_is_wrong(name: str, value: Any, words: str) -> None:
    assert profile.of(GOOD).max_rows == 8
    with pytest.raises(profile.ProfileError, match=words):
        profile.of({**GOOD, name: value})
