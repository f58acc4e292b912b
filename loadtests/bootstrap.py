"""Bootstrap intervals (B. Efron, "Bootstrap Methods: Another Look at the Jackknife"): how sure the middle of few paired ratios is."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from statistics import median

FEWEST_VALUES = 6
"""Of fewer no interval holds 95 %: even the least and the largest of n values enclose their middle only with 1 - 2^(1-n) (signed-rank distribution)."""

_TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Interval:
    """The middle of some ratios, and bounds that enclose it with 95 %.

    Args:
        middle: their pseudomedian (Hodges and Lehmann): the median of what any two of them have in the middle, a ratio and itself included.
        low: the lower bound.
        high: the upper bound.
        values: how many there were.
    """

    middle: float
    low: float
    high: float
    values: int


def interval(ratios: Sequence[float], *, resamples: int = 2000) -> Interval:
    """The interval of a pseudomedian: of the bootstrap, and no narrower than Wilcoxon's signed ranks allow.

    An outlier moves a pseudomedian little, and where values vary as errors do it takes two thirds of them to be as sure of it as of a median. Signed ranks
    take it that ratios lie evenly around their middle on a logarithmic scale. Of few values the bootstrap alone encloses the middle too seldom.

    Args:
        ratios: not negative. Two of them have their geometric mean in the middle, so that it does not matter which of a pair is the divisor.
        resamples: how often as many are drawn of them, with replacement.

    Raises:
        ValueError: there are none.
    """
    if not ratios:
        raise ValueError("an interval needs at least one value")
    ordered, chance = sorted(ratios), random.Random(1)
    middles = sorted(_pairwise_middles(ordered))
    drawn = sorted(median(_pairwise_middles(chance.choices(ordered, k=len(ordered)))) for _ in range(resamples))
    outer = _outer(len(ordered))
    return Interval(
        median(middles),
        min(drawn[round(_TAIL * resamples)], middles[outer]),
        max(drawn[round((1 - _TAIL) * resamples) - 1], middles[-1 - outer]),
        len(ordered),
    )


def _pairwise_middles(ratios: Sequence[float]) -> list[float]:
    roots = [math.sqrt(ratio) for ratio in ratios]
    return [one * other for one, other in combinations_with_replacement(roots, 2)]


def _outer(count: int) -> int:
    """How many pairwise middles may lie outside at each end: so many that both tails together are at most 5 % (distribution of the signed-rank sum)."""
    ways = [1]
    for rank in range(1, count + 1):
        # Each rank is in the sum or is not.
        without, within = [*ways, *[0] * rank], [0] * rank + ways
        ways = [one + other for one, other in zip(without, within, strict=True)]
    below, outer = ways[0], 0
    while (below := below + ways[outer + 1]) <= _TAIL * 2**count:
        outer += 1
    return outer
