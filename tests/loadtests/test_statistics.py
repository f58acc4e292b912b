"""The USL fit and the bootstrap: both must find what is known to be there."""

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import usl
from loadtests.bootstrap import FEWEST_VALUES, interval


def curve(speed: float, contention: float, crosstalk: float) -> list[tuple[float, float]]:
    return [(n, speed * n / (1 + contention * (n - 1) + crosstalk * n * (n - 1))) for n in (0.5, 1, 2, 4, 8, 16, 32, 64)]


@given(st.floats(10, 2000), st.floats(0.001, 0.5), st.floats(0.00001, 0.01))
def test_the_law_that_made_the_points_is_found_again(speed: float, contention: float, crosstalk: float) -> None:
    found = usl.fit(curve(speed, contention, crosstalk))
    assert found is not None
    assert (found.speed, found.contention, found.crosstalk) == pytest.approx((speed, contention, crosstalk), rel=1e-3)
    assert found.error < 1e-4
    assert found.most == pytest.approx(max(found.throughput(n / 4) for n in range(1, 4000)), rel=0.02)


@given(st.lists(st.tuples(st.floats(0.1, 200), st.floats(1, 5000)), min_size=3, max_size=12))
def test_whatever_the_points_are_no_coefficient_is_negative(points: list[tuple[float, float]]) -> None:
    found = usl.fit(points)
    assert found is not None
    assert found.speed > 0
    assert min(found.contention, found.crosstalk) >= 0


def test_without_crosstalk_the_most_is_what_contention_leaves() -> None:
    found = usl.fit(curve(100, 0.1, 0))
    assert found is not None
    assert found.most == pytest.approx(1000, rel=0.01)


def test_fewer_than_three_points_are_fitted_by_anything() -> None:
    assert usl.fit([(1, 100), (2, 180), (0, 0)]) is None


def test_an_interval_holds_its_middle_and_widens_with_the_spread() -> None:
    narrow, wide = interval([0.99, 1.0, 1.01, 1.0]), interval([0.7, 1.0, 1.3, 1.0])
    assert narrow.low <= narrow.middle <= narrow.high
    assert wide.high - wide.low > narrow.high - narrow.low
    assert (interval([1.1, 1.1]).low, interval([1.1]).high) == (1.1, 1.1)


@pytest.mark.parametrize("count", range(FEWEST_VALUES, 13))
def test_an_interval_encloses_the_true_middle_in_at_least_95_of_100_cases(count: int) -> None:
    chance = random.Random(7)
    found = [interval([chance.gauss(1, 0.1) for _ in range(count)], resamples=100) for _ in range(1000)]
    # Less by what 1,000 throws of dice may be off.
    assert sum(one.low <= 1 <= one.high for one in found) / len(found) >= 0.95 - 0.015


def test_of_many_values_it_is_nearly_as_narrow_as_that_of_a_mean_which_an_outlier_would_move() -> None:
    chance = random.Random(7)
    samples = [[chance.gauss(1, 0.1) for _ in range(40)] for _ in range(15)]
    of_a_mean = 2 * 1.96 * 0.1 / 40**0.5
    widths = [found.high - found.low for found in (interval(sample, resamples=400) for sample in samples)]
    assert statistics.mean(widths) < 1.15 * of_a_mean
    calm, disturbed = interval(samples[0]), interval([*samples[0][1:], 5.0])
    assert abs(disturbed.middle - calm.middle) < of_a_mean / 4


def test_which_of_a_pair_is_the_divisor_does_not_matter() -> None:
    ratios = [0.8, 0.95, 1.1, 1.3, 1.2, 0.7]
    found, inverse = interval(ratios), interval([1 / ratio for ratio in ratios])
    assert found.middle == pytest.approx(1 / inverse.middle)


def test_the_order_in_which_values_came_changes_no_interval() -> None:
    values = [1.0, 1.1, 0.9, 1.3, 0.8, 1.2, 0.7]
    assert interval(values) == interval(sorted(values)) == interval(values[::-1])


def test_nothing_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one"):
        interval([])
