"""The sweep: workers x pool size around the derived point, to see whether another choice would have been better.

What the machine does meanwhile changes all figures by more than neighbouring sizes do, and two processes of one and the same size differ as much as these. So
the derived point and another one are loaded at the same moment, on servers that are started anew for every pair (duet benchmarking, Bulej et al., arXiv
2001.05811): only the two of a pair are compared, and what processes differ by is in the intervals.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from loadtests.bootstrap import FEWEST_VALUES, Interval, interval
from loadtests.deployment import Sizing
from loadtests.objectives import Objectives
from loadtests.steps import Step

TOLERANCE = 0.05
"""By so much may another point serve more, or have a shorter p99, before the derived one is called worse."""

LEAST_REFUSED, MOST_REFUSED = 0.05, 0.5
"""What both points must refuse under overload, and the derived one at most, for a pair's throughput to count: of one that refuses less nobody knows how much
it can serve, and where more is refused it is measured how fast that is done."""

Outcome = Literal["shown", "refuted", "not shown"]


@dataclass(frozen=True, slots=True)
class Loads:
    """What one server was offered.

    Args:
        overload: a step above what can be served: what is served then is the throughput.
        normal: a step below it: its p99 is the latency.
    """

    overload: Step
    normal: Step


@dataclass(frozen=True, slots=True)
class Pair:
    """The derived point and another one, on servers of their own, loaded at the same moment or, where that cannot be, one after the other.

    Args:
        sizing: the other point.
        derived: what became of the derived one.
        other: what became of the other one.
    """

    sizing: Sizing
    derived: Loads
    other: Loads


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A point over all its pairs.

    Attributes:
        sizing: which point.
        throughput: requests served a second at the rate of the overload, the median; None when all those steps were void.
        throughput_ratio: the derived point's throughput to this one's, in pairs of which both were overloaded; None without a pair, and of the derived
            point itself.
        p99_ms: below the knee, the median; None when nothing was served.
        p99_ratio: the derived point's p99 to this one's, in pairs; None as above.
        faults: in so many pairs the derived point refused too much, or made errors, at the rate below the knee, and this one did not.
    """

    sizing: Sizing
    throughput: float | None
    throughput_ratio: Interval | None = None
    p99_ms: float | None
    p99_ratio: Interval | None = None
    faults: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep found.

    Attributes:
        derived: the point that the plan chooses.
        cells: every point.
        at_once: whether the two of a pair were loaded at the same moment, or one after the other.
        outcome: whether it was shown that the derived point is within `TOLERANCE` of the best, or that it is not, or neither.
        verdict: that in words, with the reason.
    """

    derived: Sizing
    cells: list[Cell]
    at_once: bool
    outcome: Outcome
    verdict: str


def pairs(others: Sequence[Sizing], rounds: int, measure: Callable[[Sizing, int], Pair | None], seed: int = 1) -> Iterator[Pair]:
    """Compare every other point with the derived one once a round, in an order that changes; a pair may come to nothing.

    Args:
        others: the points to compare with.
        rounds: how often each.
        measure: given the other point and the pair's number.
        seed: of the order.
    """
    chance = random.Random(seed)
    order = [point for _ in range(rounds) for point in chance.sample(others, len(others))]
    for number, point in enumerate(order):
        if (pair := measure(point, number)) is not None:
            yield pair


def judged(found: Sequence[Pair], others: Sequence[Sizing], derived: Sizing, limits: Objectives, *, at_once: bool) -> Swept:
    """Compare every point with the derived one.

    Which point is the best nobody knows for certain, and to take the one that happened to look best would be to take the luckiest. So the derived point
    is compared with every one: it is within 5 % of the best when it is within 5 % of each, interval included (an intersection-union test: each
    comparison at its level, and no correction for their number). Beside every point which may serve more its p99 must be no longer, in the middle: of a
    few thousand requests it varies too much for an interval of 5 %.

    Args:
        found: the pairs.
        others: the points to compare with, whether or not a pair with them came to anything.
        derived: the point that the plan chooses.
        limits: of them, those of refusals and errors tell whether a normal step lay below the knee.
        at_once: whether the two of a pair were loaded at the same moment.
    """
    cells = [_cell(point, [pair for pair in found if pair.sizing == point], limits) for point in others]
    ours = _cell_of_one(derived, [pair.derived for pair in found])
    unmeasured = [cell.sizing for cell in (ours, *cells) if cell.throughput is None]
    outcome, verdict = _verdict(derived, cells, unmeasured)
    return Swept(derived=derived, cells=[ours, *cells], at_once=at_once, outcome=outcome, verdict=verdict)


def _are_overloaded(ours: Step, theirs: Step) -> bool:
    """Whether a pair of steps says how much both can serve."""
    if ours.void or theirs.void or not theirs.served_per_second:
        return False
    return LEAST_REFUSED <= ours.total.refused_rate <= MOST_REFUSED and theirs.total.refused_rate >= LEAST_REFUSED


def _is_below_the_knee(step: Step, limits: Objectives) -> bool:
    kept = ((step.total.refused_rate, limits.refused_rate), (step.total.error_rate, limits.error_rate))
    return all(limit is None or found <= limit for found, limit in kept)


def _cell(point: Sizing, pairs_with: Sequence[Pair], limits: Objectives) -> Cell:
    overloads = [(pair.derived.overload, pair.other.overload) for pair in pairs_with]
    served = [ours.served_per_second / theirs.served_per_second for ours, theirs in overloads if _are_overloaded(ours, theirs)]
    normals = [
        (pair.derived.normal, pair.other.normal) for pair in pairs_with if not pair.derived.normal.void and not pair.other.normal.void
    ]
    sound = [(ours, theirs) for ours, theirs in normals if _is_below_the_knee(theirs, limits)]
    p99s = [(ours.total.p99_ms, theirs.total.p99_ms) for ours, theirs in sound if _is_below_the_knee(ours, limits)]
    return replace(
        _cell_of_one(point, [pair.other for pair in pairs_with]),
        throughput_ratio=_interval(served),
        p99_ratio=_interval([ours / theirs for ours, theirs in p99s if ours is not None and theirs]),
        faults=len(sound) - len(p99s),
    )


def _cell_of_one(point: Sizing, loads: Sequence[Loads]) -> Cell:
    return Cell(
        sizing=point,
        throughput=_median(load.overload.served_per_second for load in loads if not load.overload.void),
        p99_ms=_median(load.normal.total.p99_ms for load in loads if not load.normal.void),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _interval(ratios: Sequence[float]) -> Interval | None:
    return interval(ratios) if ratios else None


def _verdict(derived: Sizing, others: Sequence[Cell], unmeasured: Sequence[Sizing]) -> tuple[Outcome, str]:
    worse, unclear = [], [f"{point} was never measured: none of its steps counts" for point in unmeasured]
    for cell in others:
        was_worse, was_unclear = _compared(cell)
        worse += was_worse
        unclear += was_unclear
    if worse:
        return "refuted", f"the derived sizing ({derived}) is worse than another: {'; '.join(worse)}"
    if unclear:
        return "not shown", f"not shown that the derived sizing ({derived}) is within {TOLERANCE:.0%} of the best: {'; '.join(unclear)}"
    text = f"the derived sizing ({derived}) is within {TOLERANCE:.0%} of the best, interval included"
    nearest = min(others, key=_lower_bound, default=None)
    if nearest is not None and nearest.throughput_ratio is not None:
        text += (
            f": of its {len(others)} neighbours {nearest.sizing} comes nearest, and beside that it serves {share(nearest.throughput_ratio)}"
        )
        if nearest.p99_ratio is not None:
            text += f" at a p99 of {share(nearest.p99_ratio)}"
    return "shown", text


def _compared(cell: Cell) -> tuple[list[str], list[str]]:
    """In what the derived point is worse than this one, and in what that cannot be told."""
    served, p99 = cell.throughput_ratio, cell.p99_ratio
    if served is None or served.values < FEWEST_VALUES:
        times = f"{served.values if served else 0} times under an overload of which each refused {LEAST_REFUSED:.0%} or more"
        return [], [f"{cell.sizing} was compared {times}, {FEWEST_VALUES} are needed"]
    worse: list[str] = []
    unclear: list[str] = []
    if served.low < 1 - TOLERANCE:
        (worse if served.high < 1 - TOLERANCE else unclear).append(f"beside {cell.sizing} it serves {share(served)}")
    # Who surely serves less is not the best, whatever its p99.
    if served.low <= 1:
        if cell.faults:
            unclear.append(f"below the knee it refused too much, or made errors, in {cell.faults} pairs in which {cell.sizing} did not")
        if p99 is None or p99.values < FEWEST_VALUES:
            times = f"{p99.values if p99 else 0} times below the knee"
            unclear.append(f"the p99 was compared with that of {cell.sizing} {times}, {FEWEST_VALUES} are needed")
        elif p99.middle > 1 + TOLERANCE:
            # A point that only may serve more is not surely better for its shorter p99.
            is_worse = p99.low > 1 + TOLERANCE and served.high < 1
            (worse if is_worse else unclear).append(f"beside {cell.sizing} its p99 is {share(p99)} and it serves {share(served)}")
    return worse, unclear


def _lower_bound(cell: Cell) -> float:
    return cell.throughput_ratio.low if cell.throughput_ratio else 0.0


def share(found: Interval) -> str:
    """A ratio in words."""
    return f"{found.middle:.1%} ({found.low:.1%} to {found.high:.1%})"
