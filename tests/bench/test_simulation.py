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
from bench.simulation.scaling import Down, Scaling

ONE_BY_ONE = Profile(((1.0, 1.0, 1.0),), 0, 0, 0, max_rows=1, max_tokens=1 << 20, max_jobs=1 << 20, calls=1)
"""A queue before a server that takes a second for each step."""
TURNS = ((1.0, 0.06, 0.05), (8.0, 0.2, 0.18))
BATCHING = Profile(TURNS, 0.03, 0.06, 0.01, max_rows=8, max_tokens=1 << 20, max_jobs=16, calls=2)
MIXED = edits.mix("4x1:0.6,20x1:0.2,8x3:0.2")


def simulated(setting: Setting, rate: float, count: int, given: Profile = BATCHING, **options: Any) -> Seen:
    """So many edits of `mix` at `rate` a second."""
    draw = random.Random(1)
    kinds, streams, seed = options.get("mix", MIXED), options.get("streams", 0.0), options.get("seed", 0)
    asked = edits.drawn(kinds, edits.arrivals(rate, options.get("burst", Burst()), draw), streams, draw)
    return Fleet(given, setting, seed).run(islice(asked, count))


@pytest.mark.slow
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


def test_the_engine_computes_one_groups_call_while_another_is_made_ready() -> None:
    """Of two groups it never waits; of one it waits for each turn's end; a third group waits for one of two places."""
    given = replace(BATCHING, turns=((1.0, 0.5, 0.4),), condition_seconds=0, render_seconds=0, front_seconds=0)
    for groups, calls, seconds in ((1, 2, 5.0), (2, 1, 10.0), (2, 2, 8.1), (3, 2, 12.1), (3, 3, 12.1)):
        asked = [Edit(Kind(10, 1, 64 + group, 1.0), 0.0, streamed=False) for group in range(groups)]
        seen = Fleet(replace(given, calls=calls), Setting(1), 0).run(iter(asked))
        assert max(edit.seconds for edit in seen.edits) == pytest.approx(seconds)
        assert seen.replicas[0].busy == pytest.approx(seconds)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("resend", [True, False])
def test_every_edit_comes_to_one_outcome(policy: str, resend: bool) -> None:
    """While replicas are full, die, start and are taken away."""
    scaling = Scaling(2, 6, threshold=6, poll_seconds=5, age_seconds=5, start_seconds=10, down=Down(seconds=5))
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


@pytest.mark.slow
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


def test_a_burst_brings_so_many_times_as_many() -> None:
    times = list(islice(edits.arrivals(50.0, Burst(4, 10, 100, begins=10), random.Random(2)), 20_000))
    inside = sum(at >= 10 and (at - 10) % 100 < 10 for at in times) / len(times)
    assert inside == pytest.approx(4 * 10 / (4 * 10 + 90), rel=0.04)


@pytest.mark.parametrize(("count", "place"), [(1, 0), (19, 18), (20, 18), (100, 94)])
def test_the_95th_percentile_is_one_of_the_values(count: int, place: int) -> None:
    assert percentile([float(n) for n in range(count)], 95) == float(place)


def test_turns_between_measured_rows_are_interpolated_and_go_on_beyond_them() -> None:
    given = replace(BATCHING, turns=((1.0, 0.1, 0.1), (3.0, 0.3, 0.2), (4.0, 0.36, 0.24)), max_rows=6)
    assert given.turn_seconds() == pytest.approx((0.1, 0.1, 0.2, 0.3, 0.36, 0.42, 0.48))
    assert given.engine_seconds() == pytest.approx((0.1, 0.1, 0.15, 0.2, 0.24, 0.28, 0.32))


def test_the_published_profile_is_one() -> None:
    seconds = profile.read(PROFILE).turn_seconds()
    assert list(seconds) == sorted(seconds)


GOOD: dict[str, Any] = {
    "turns": [[1, 0.1, 0.1], [2, 0.2, 0.15]],
    **dict.fromkeys(profile.SECONDS, 0.1),
    **dict.fromkeys(profile.BOUNDS, 8),
}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("turns", [], "lists of rows, seconds and the engine's seconds"),
        ("turns", [[1, 0.1]], "`python -m bench replica` measures it anew"),
        ("turns", [[1, 0, 0]], "all above 0"),
        ("turns", [[1, 0.1, 0.2]], "no less than their engine"),
        ("turns", [[2, 0.1, 0.1], [1, 0.2, 0.1]], "rise in rows"),
        ("front_seconds", -1, "front_seconds must be a number of seconds"),
        ("render_seconds", "1", "render_seconds must be a number of seconds"),
        ("max_rows", 0, "max_rows must be a whole number from 1"),
        ("max_jobs", 1.5, "max_jobs must be a whole number from 1"),
        ("calls", None, "`python -m bench replica` measures it anew"),
        ("max_tokens", True, "max_tokens must be a whole number from 1"),
    ],
)
def test_a_profile_that_is_none_says_what_is_wrong(name: str, value: Any, words: str) -> None:
    assert profile.of(GOOD).max_rows == 8
    with pytest.raises(profile.ProfileError, match=words):
        profile.of({**GOOD, name: value})
