"""The rule by which KEDA's autoscaler adds replicas and takes them away, as it is simulated."""

import pytest

from bench.simulation.scaling import Autoscaler, Down, Scaling


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
    scaler = Autoscaler(Scaling(2, 9, threshold=10, age_seconds=0, down=Down(seconds=300)))
    pods, seen = 5, []
    scaler.look(0.0, 50, pods)
    for minute in range(1, 17):
        pods = scaler.look(60.0 * minute, 0, pods)
        seen.append(pods)
    assert seen == [5, 5, 5, 5, 4, 4, 4, 4, 4, 3, 3, 3, 3, 3, 2, 2]


def test_of_a_share_and_a_number_the_more_is_taken_away_within_any_minute() -> None:
    rule = Scaling(1, 99, threshold=10, age_seconds=0, down=Down(1, 0.2, seconds=60, window_seconds=0))
    scaler, pods, seen = Autoscaler(rule), 41, []
    for at in range(0, 600, 30):
        pods = scaler.look(float(at), 0, pods)
        seen.append(pods)
    assert seen == [32, 32, 25, 25, 20, 20, 16, 16, 12, 12, 9, 9, 7, 7, 5, 5, 4, 4, 3, 3]


def test_no_more_is_taken_away_than_is_wanted() -> None:
    rule = Scaling(2, 99, threshold=10, age_seconds=0, down=Down(1, 1.0, seconds=60, window_seconds=120))
    scaler = Autoscaler(rule)
    assert [scaler.look(at, edits, 20) for at, edits in ((0.0, 200), (60.0, 70), (110.0, 0), (130.0, 0))] == [
        20,
        20,
        20,
        7,
    ]


def test_what_keda_sees_is_as_old_as_it_is_told() -> None:
    scaler = Autoscaler(Scaling(1, 50, threshold=10, age_seconds=15))
    scaler.look(0.0, 10, 1)
    assert scaler.look(10.0, 50, 1) == 1
    assert scaler.look(25.0, 50, 1) == 5
