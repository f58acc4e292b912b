"""Bootstrap intervals (B. Efron, "Bootstrap Methods: Another Look at the Jackknife"): how sure a median of few paired ratios is."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, and the bounds between which 95 % of the resampled medians lie."""

    median: float
    low: float
    high: float


def interval(values: Sequence[float], seed: int = 1) -> Interval:
    """The interval of a median.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    chance = random.Random(seed)
    medians = sorted(median(chance.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return Interval(median(values), medians[round(0.025 * _RESAMPLES)], medians[round(0.975 * _RESAMPLES) - 1])
