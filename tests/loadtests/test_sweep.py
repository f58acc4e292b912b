"""The sweep: the derived point beside every other one at the same moment, compared in pairs, with a verdict that holds the interval's bound."""

from collections.abc import Sequence

import pytest

from loadtests.bootstrap import FEWEST_VALUES
from loadtests.deployment import Sizing
from loadtests.objectives import Objectives
from loadtests.sweep import Loads, Pair, Swept, judged, pairs
from tests.loadtests.made import a_step

DERIVED, OTHER = Sizing(1, 5), Sizing(2, 5)
ROUNDS = (-0.01, -0.004, -0.002, 0.002, 0.004, 0.01)
"""By how much a figure of a quiet machine is off, round by round."""


LIMITS = Objectives(p99_ms=250, refused_rate=0.01, error_rate=0.001)


def loads(throughput: float, p99_ms: float = 20, *, void: str = "", refused: float = 0.2, refused_below: float = 0) -> Loads:
    return Loads(
        overload=a_step(1000, served=throughput, void=void, refused=round(9000 * refused)),
        normal=a_step(100, p99_ms=p99_ms, refused=round(900 * refused_below)),
    )


def a_pair(derived: Loads, other: Loads, sizing: Sizing = OTHER) -> Pair:
    return Pair(sizing, derived, other)


def compared(
    *, throughput: float, p99: float = 1.0, off: Sequence[float] = ROUNDS, p99_off: Sequence[float] | None = None, **ours: float
) -> Swept:
    """A sweep in which the derived point's throughput and p99 are so much of the other's, and off by a little in each pair."""
    found = [
        a_pair(loads(1000 * throughput * (1 + error), 20 * p99 * (1 + p99_error), **ours), loads(1000))  # type: ignore[arg-type] # what was refused
        for error, p99_error in zip(off, p99_off or off, strict=True)
    ]
    return judged(found, [OTHER], DERIVED, LIMITS, at_once=True)


def test_every_round_compares_every_other_point_once_in_an_order_of_its_own() -> None:
    others = [Sizing(workers, pool) for workers in (1, 2) for pool in (2, 4, 10)][:5]
    found = list(pairs(others, 4, lambda point, _: a_pair(loads(100), loads(100), point)))
    rounds = [[pair.sizing for pair in found[first : first + 5]] for first in range(0, 20, 5)]
    assert all(sorted(order, key=str) == sorted(others, key=str) for order in rounds)
    assert len({str(order) for order in rounds}) > 1


def test_every_pair_has_a_number_of_its_own() -> None:
    numbers: list[int] = []
    list(pairs([OTHER, Sizing(1, 2)], 3, lambda _, number: numbers.append(number)))
    assert numbers == list(range(6))


@pytest.mark.parametrize(("ours", "outcome"), [(1.1, "shown"), (1.0, "shown"), (0.97, "shown"), (0.95, "not shown"), (0.90, "refuted")])
def test_the_derived_point_holds_when_the_whole_interval_is_within_five_percent_of_each_other_point(ours: float, outcome: str) -> None:
    swept = compared(throughput=ours)
    assert swept.outcome == outcome
    assert ("within 5% of the best, interval included" in swept.verdict) is (outcome == "shown")


def test_a_restless_machine_shows_nothing_and_says_how_wide_the_interval_is() -> None:
    swept = compared(throughput=1.0, off=(-0.3, -0.2, -0.1, 0.1, 0.2, 0.3))
    assert swept.outcome == "not shown"
    assert "beside 2 x 5 it serves 98.0% (70.0% to 130.0%)" in swept.verdict


@pytest.mark.parametrize(
    ("ours", "p99", "outcome"),
    [
        (0.97, 0.9, "shown"),
        (0.97, 1.0, "shown"),
        (0.97, 1.04, "shown"),
        (0.97, 1.055, "not shown"),
        (0.97, 1.3, "refuted"),
        (1.0, 1.3, "not shown"),
    ],
)
def test_its_p99_must_in_the_middle_be_no_longer_than_that_of_a_point_that_may_serve_more(ours: float, p99: float, outcome: str) -> None:
    swept = compared(throughput=ours, p99=p99)
    assert swept.outcome == outcome
    assert ("its p99 is" in swept.verdict) is (outcome != "shown")


def test_the_p99_of_a_point_that_surely_serves_less_is_not_asked_for() -> None:
    assert compared(throughput=1.2, p99=1.3).outcome == "shown"


def test_fewer_rounds_than_an_interval_needs_show_nothing_and_refute_nothing() -> None:
    for ours in (0.5, 1.0):
        swept = compared(throughput=ours, off=ROUNDS[1:])
        assert swept.outcome == "not shown"
        assert f"2 x 5 was compared 5 times under an overload of which each refused 5% or more, {FEWEST_VALUES} are needed" in swept.verdict


def test_a_slow_moment_that_hits_both_changes_no_ratio() -> None:
    found = [a_pair(loads(speed), loads(speed)) for speed in (1000, 400, 1000, 700, 300, 900)]
    swept = judged(found, [OTHER], DERIVED, LIMITS, at_once=True)
    (ratio,) = [cell.throughput_ratio for cell in swept.cells if cell.throughput_ratio is not None]
    assert (ratio.low, ratio.high, swept.outcome) == (1, 1, "shown")


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0.2), (0.04, 0.2), (0.51, 0.2), (0.2, 0.04)])
def test_what_was_not_overloaded_or_by_far_too_much_shows_nothing(ours: float, theirs: float) -> None:
    found = [a_pair(loads(1000, refused=ours), loads(1000, refused=theirs)) for _ in range(6)]
    swept = judged(found, [OTHER], DERIVED, LIMITS, at_once=True)
    assert swept.outcome == "not shown"
    assert "2 x 5 was compared 0 times under an overload of which each refused 5% or more" in swept.verdict


def test_a_point_that_refuses_far_more_is_compared_all_the_same() -> None:
    found = [a_pair(loads(1000), loads(500, refused=0.6)) for _ in range(6)]
    assert judged(found, [OTHER], DERIVED, LIMITS, at_once=True).outcome == "shown"


def test_a_derived_point_that_refuses_below_the_knee_where_another_does_not_is_not_shown_to_be_right() -> None:
    found = [a_pair(loads(1000), loads(1000)) for _ in range(6)] + [a_pair(loads(1000, refused_below=0.02), loads(1000))]
    swept = judged(found, [OTHER], DERIVED, LIMITS, at_once=True)
    assert swept.outcome == "not shown"
    assert "below the knee it refused too much, or made errors, in 1 pairs in which 2 x 5 did not" in swept.verdict


def test_a_p99_above_the_knee_is_not_compared() -> None:
    found = [a_pair(loads(1000, 10, refused_below=0.02), loads(1000, refused_below=0.02)) for _ in range(6)]
    swept = judged(found, [OTHER], DERIVED, LIMITS, at_once=True)
    assert (swept.outcome, "the p99 was compared with that of 2 x 5 0 times below the knee" in swept.verdict) == ("not shown", True)


def test_points_that_were_never_measured_show_nothing() -> None:
    swept = judged([], [OTHER], DERIVED, LIMITS, at_once=True)
    assert swept.outcome == "not shown"
    assert all(f"{point} was never measured" in swept.verdict for point in (DERIVED, OTHER))


def test_a_pair_that_came_to_nothing_is_none() -> None:
    assert list(pairs([OTHER], 2, lambda *_: None)) == []


def test_steps_that_were_void_do_not_count_and_a_point_of_which_all_were_leaves_the_best_unknown() -> None:
    found = [a_pair(loads(100), loads(90)) for _ in range(6)] + [a_pair(loads(100), loads(5000, void="late"))]
    assert judged(found, [OTHER], DERIVED, LIMITS, at_once=True).outcome == "shown"
    far = Sizing(4, 50)
    swept = judged([*found, a_pair(loads(100), loads(9000, void="late"), far)], [OTHER, far], DERIVED, LIMITS, at_once=True)
    assert (swept.outcome, "4 x 50 was never measured" in swept.verdict) == ("not shown", True)


def test_the_derived_point_is_the_median_of_all_its_pairs() -> None:
    swept = judged(
        [a_pair(loads(100), loads(90)), a_pair(loads(300), loads(90), Sizing(1, 2))], [OTHER, Sizing(1, 2)], DERIVED, LIMITS, at_once=True
    )
    assert {str(cell.sizing): cell.throughput for cell in swept.cells} == {"1 x 5": 200, "2 x 5": 90, "1 x 2": 90}
