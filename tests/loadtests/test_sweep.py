"""The sweep: the derived point next to every other one, compared in pairs, with a verdict that holds the interval's bound."""

from collections.abc import Sequence

import pytest

from loadtests.bootstrap import FEWEST_VALUES
from loadtests.deployment import Sizing
from loadtests.objectives import Objectives
from loadtests.sweep import Swept, Visit, judged, visits
from tests.loadtests.made import a_step

DERIVED, OTHER = Sizing(1, 5), Sizing(2, 5)
ROUNDS = (-0.01, -0.004, -0.002, 0.002, 0.004, 0.01)
"""By how much a figure of a quiet machine is off, round by round."""


LIMITS = Objectives(p99_ms=250, refused_rate=0.01, error_rate=0.001)


def a_visit(
    point: Sizing, group: int, throughput: float, p99_ms: float = 20, *, void: str = "", refused: float = 0.2, refused_below: float = 0
) -> Visit:
    return Visit(
        point,
        group,
        overload=a_step(1000, served=throughput, void=void, refused=round(9000 * refused)),
        normal=a_step(100, p99_ms=p99_ms, refused=round(900 * refused_below)),
    )


def compared(
    *, throughput: float, p99: float = 1.0, off: Sequence[float] = ROUNDS, p99_off: Sequence[float] | None = None, **ours: float
) -> Swept:
    """A sweep in which the derived point's throughput and p99 are so much of the other's, and off by a little each round."""
    found = [a_visit(OTHER, number, 1000) for number, _ in enumerate(off)]
    found += [
        a_visit(DERIVED, number, 1000 * throughput * (1 + error), 20 * p99 * (1 + p99_error), **ours)  # type: ignore[arg-type] # what was refused
        for number, (error, p99_error) in enumerate(zip(off, p99_off or off, strict=True))
    ]
    return judged(found, [OTHER], DERIVED, LIMITS)


def test_every_round_visits_every_other_point_once_next_to_the_derived_one_in_an_order_of_its_own() -> None:
    others = [Sizing(workers, pool) for workers in (1, 2) for pool in (2, 4, 10)][:5]
    found = list(visits(others, DERIVED, 4, lambda point, group: a_visit(point, group, 100)))
    groups = [[visit.sizing for visit in found if visit.group == group] for group in sorted({visit.group for visit in found})]
    assert all(DERIVED in group and len(group) in (2, 3) for group in groups)
    rounds = [[point for group in groups[first : first + 3] for point in group if point != DERIVED] for first in range(0, 12, 3)]
    assert all(sorted(order, key=str) == sorted(others, key=str) for order in rounds)
    assert len({str(order) for order in rounds}) > 1


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
        assert f"2 x 5 was compared 5 times under an overload of which 5% to 40% was refused, {FEWEST_VALUES} are needed" in swept.verdict


def test_a_slow_group_that_hits_both_changes_no_ratio() -> None:
    speeds = [1000, 400, 1000, 700, 300, 900]
    found = [a_visit(point, number, speed) for number, speed in enumerate(speeds) for point in (DERIVED, OTHER)]
    swept = judged(found, [OTHER], DERIVED, LIMITS)
    (ratio,) = [cell.throughput_ratio for cell in swept.cells if cell.throughput_ratio is not None]
    assert (ratio.low, ratio.high, swept.outcome) == (1, 1, "shown")


@pytest.mark.parametrize("refused", [0, 0.04, 0.41])
def test_what_was_not_overloaded_or_by_far_too_much_shows_nothing(refused: float) -> None:
    swept = compared(throughput=1.0, refused=refused)
    assert (swept.outcome, "2 x 5 was compared 0 times under an overload of which 5% to 40% was refused" in swept.verdict) == (
        "not shown",
        True,
    )


def test_a_p99_above_the_knee_is_not_compared() -> None:
    swept = compared(throughput=1.0, p99=0.5, refused_below=0.02)
    assert (swept.outcome, "the p99 was compared with that of 2 x 5 0 times below the knee" in swept.verdict) == ("not shown", True)


def test_a_derived_point_that_was_never_measured_shows_nothing() -> None:
    for found in ([a_visit(OTHER, 1, 100)], []):
        swept = judged(found, [OTHER], DERIVED, LIMITS)
        assert (swept.outcome, "1 x 5 was never measured" in swept.verdict) == ("not shown", True)


def test_a_visit_that_came_to_nothing_is_none() -> None:
    assert list(visits([OTHER], DERIVED, 2, lambda *_: None)) == []


def test_visits_that_were_void_do_not_count_and_a_point_of_which_all_were_leaves_the_best_unknown() -> None:
    ours = [a_visit(DERIVED, number, 100) for number in range(7)]
    theirs = [a_visit(OTHER, number, 5000 if number == 6 else 90, void="late" if number == 6 else "") for number in range(7)]
    assert judged([*ours, *theirs], [OTHER], DERIVED, LIMITS).outcome == "shown"
    swept = judged([*ours, *theirs, a_visit(Sizing(4, 50), 1, 9000, void="late")], [OTHER, Sizing(4, 50)], DERIVED, LIMITS)
    assert (swept.outcome, "4 x 50 was never measured" in swept.verdict) == ("not shown", True)
