"""Bootstrap intervals (B. Efron, "Bootstrap Methods: Another Look at the Jackknife"): how sure a median of few paired ratios is."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

FEWEST_VALUES = 6
"""Of fewer no interval holds 95 %: even the least and the largest of n values enclose their median only with 1 - 2^(1-n) (binomial distribution)."""

# The 2.5 and 97.5 percentiles of six to ten values enclose the median in 86 to 94 of 100 cases: those further out are what holds 95 %.
_TAIL = 0.01


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, and bounds that enclose it with 95 %.

    Args:
        median: of the values.
        low: the lower bound.
        high: the upper bound.
        values: how many there were.
    """

    median: float
    low: float
    high: float
    values: int


def interval(values: Sequence[float], *, resamples: int = 2000) -> Interval:
    """The interval of a median.

    Args:
        values: what the median is of.
        resamples: how often as many are drawn of them, with replacement.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    chance = random.Random(1)
    medians = sorted(median(chance.choices(values, k=len(values))) for _ in range(resamples))
    return Interval(median(values), medians[round(_TAIL * resamples)], medians[round((1 - _TAIL) * resamples) - 1], len(values))
