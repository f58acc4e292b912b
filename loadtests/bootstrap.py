"""Bootstrap intervals (B. Efron, "Bootstrap Methods: Another Look at the Jackknife"): how sure a median of few paired ratios is."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

FEWEST_VALUES = 6
"""Of fewer no interval holds 95 %: even the least and the largest of n values enclose their median only with 1 - 2^(1-n) (binomial distribution)."""

_TAIL = 0.025


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
    """The interval of a median: of the bootstrap, and no narrower than the order statistics that enclose it with 95 % (binomial distribution).

    Of few values the bootstrap alone encloses the median too seldom: in 86 to 94 of 100 cases of six to ten.

    Args:
        values: what the median is of.
        resamples: how often as many are drawn of them, with replacement.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    ordered, chance = sorted(values), random.Random(1)
    medians = sorted(median(chance.choices(ordered, k=len(ordered))) for _ in range(resamples))
    outer = _rank(len(ordered))
    return Interval(
        median(ordered),
        min(medians[round(_TAIL * resamples)], ordered[outer]),
        max(medians[round((1 - _TAIL) * resamples) - 1], ordered[-1 - outer]),
        len(ordered),
    )


def _rank(count: int) -> int:
    """How many values may lie outside at each end: so many that both tails together are at most 5 %."""
    below, rank = 0.5**count, 0
    while below + math.comb(count, rank + 1) * 0.5**count <= _TAIL:
        rank += 1
        below += math.comb(count, rank) * 0.5**count
    return rank
