"""Arrivals: seeded, at the rate that was asked for, and made before anything is sent."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.arrivals import BURST, Arrivals, schedule

KINDS: tuple[Arrivals, ...] = ("poisson", "constant", "bursts")


@pytest.mark.parametrize("kind", KINDS)
@given(rate=st.floats(1, 2000), seconds=st.floats(0.5, 5), seed=st.integers(0, 100))
def test_the_same_seed_makes_the_same_moments_in_order_within_the_step(kind: Arrivals, rate: float, seconds: float, seed: int) -> None:
    moments = schedule(kind, rate=rate, seconds=seconds, seed=seed)
    assert moments == schedule(kind, rate=rate, seconds=seconds, seed=seed)
    assert all(before <= after for before, after in pairwise(moments))
    assert all(0 <= moment <= seconds for moment in moments)


def test_poisson_arrivals_come_at_their_rate_with_gaps_as_irregular_as_their_mean() -> None:
    moments = schedule("poisson", rate=500, seconds=60, seed=3)
    gaps = [after - before for before, after in pairwise(moments)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert len(moments) == pytest.approx(30_000, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.05)


def test_other_seeds_make_other_moments() -> None:
    assert schedule("poisson", rate=50, seconds=1, seed=1) != schedule("poisson", rate=50, seconds=1, seed=2)


def test_constant_arrivals_have_equal_gaps() -> None:
    assert schedule("constant", rate=4, seconds=1, seed=1) == [0, 0.25, 0.5, 0.75]


def test_bursts_come_at_once_and_at_the_rate_on_average() -> None:
    moments = schedule("bursts", rate=200, seconds=1, seed=1)
    assert len(moments) == 200
    assert [moments.count(moment) for moment in sorted(set(moments))] == [BURST] * 10


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (1, 0), (-1, 1)])
def test_a_rate_or_a_time_of_nothing_is_refused(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        schedule("poisson", rate=rate, seconds=seconds, seed=1)
