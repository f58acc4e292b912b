"""The sweep: every point once a round, compared in pairs, with a verdict on the derived one."""

import pytest

from loadtests.deployment import Sizing
from loadtests.sweep import NothingMeasuredError, Visit, judged, visits
from tests.loadtests.made import a_step

DERIVED, OTHER = Sizing(1, 5), Sizing(2, 5)


def a_visit(point: Sizing, number: int, throughput: float, p99_ms: float = 20) -> Visit:
    return Visit(point, number, overload=a_step(1000, served=throughput), normal=a_step(100, p99_ms=p99_ms))


def test_every_round_visits_every_point_once_in_an_order_of_its_own() -> None:
    points = [Sizing(workers, pool) for workers in (1, 2) for pool in (2, 5, 10)]
    found = list(visits(points, 4, lambda point, number: a_visit(point, number, 100)))
    orders = [[visit.sizing for visit in found if visit.round == number] for number in (1, 2, 3, 4)]
    assert all(sorted(order, key=str) == sorted(points, key=str) for order in orders)
    assert len({str(order) for order in orders}) > 1


@pytest.mark.parametrize(("ours", "holds"), [(1.0, True), (0.96, True), (0.90, False)])
def test_the_derived_point_holds_within_five_percent_of_the_best(ours: float, holds: bool) -> None:
    found = [a_visit(DERIVED, number, 1000 * ours) for number in (1, 2, 3)] + [a_visit(OTHER, number, 1000) for number in (1, 2, 3)]
    swept = judged(found, DERIVED)
    assert swept.holds is holds
    assert ("less than 95%" in swept.verdict) is not holds


def test_a_p99_that_is_surely_longer_than_the_best_points_does_not_hold() -> None:
    found = [a_visit(DERIVED, n, 990, p99_ms=40) for n in (1, 2, 3)] + [a_visit(OTHER, n, 1000, p99_ms=20) for n in (1, 2, 3)]
    swept = judged(found, DERIVED)
    assert not swept.holds
    assert swept.verdict.endswith("which is worse")


def test_a_slow_round_that_hits_both_changes_no_ratio() -> None:
    speeds = {1: 1000, 2: 400, 3: 1000}
    found = [a_visit(point, number, speed) for number, speed in speeds.items() for point in (DERIVED, OTHER)]
    (cell,) = [cell for cell in judged(found, DERIVED).cells if cell.sizing == OTHER]
    assert (cell.throughput_ratio.low, cell.throughput_ratio.high) == (1, 1)


def test_a_machine_too_restless_for_one_point_tells_nothing() -> None:
    speeds = {1: 1000, 2: 400, 3: 1000}
    assert judged([a_visit(DERIVED, number, speed) for number, speed in speeds.items()], DERIVED).is_void
    assert not judged([a_visit(DERIVED, number, 1000 + number) for number in speeds], DERIVED).is_void


def test_the_derived_point_must_have_been_measured() -> None:
    with pytest.raises(NothingMeasuredError, match="1 x 5 was not measured"):
        judged([a_visit(OTHER, 1, 100)], DERIVED)


def test_rounds_in_which_a_point_was_void_do_not_count() -> None:
    void = Visit(OTHER, 2, overload=a_step(1000, served=5000, void="late"), normal=a_step(100))
    swept = judged([a_visit(DERIVED, 1, 100), a_visit(DERIVED, 2, 100), a_visit(OTHER, 1, 90), void], DERIVED)
    assert swept.best == DERIVED
    assert {cell.sizing: cell.throughput for cell in swept.cells} == {DERIVED: 100, OTHER: 90}
