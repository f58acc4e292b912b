"""The sweep: workers x pool size around the derived point, to see whether another choice would have been better.

What the machine does meanwhile changes all figures by more than the sizes do. So the derived point is measured again and again, next to every other one,
and only neighbours are compared.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from loadtests.bootstrap import FEWEST_VALUES, Interval, interval
from loadtests.deployment import Sizing
from loadtests.objectives import Objectives
from loadtests.steps import Step

TOLERANCE = 0.05
"""By so much may another point serve more, or have a shorter p99, before the derived one is called worse."""

LEAST_REFUSED, MOST_REFUSED = 0.05, 0.4
"""What the derived point must refuse under overload for its throughput to count: less and nobody knows how much it can serve, more and what is measured
is how fast it refuses."""

Outcome = Literal["shown", "refuted", "not shown"]


@dataclass(frozen=True, slots=True)
class Visit:
    """A point measured once.

    Args:
        sizing: which point.
        group: visits of one group were made next to each other; they are what is compared.
        overload: a step above what can be served: what is served then is the throughput.
        normal: a step below it: its p99 is the latency.
    """

    sizing: Sizing
    group: int
    overload: Step
    normal: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A point over all its visits.

    Attributes:
        sizing: which point.
        throughput: requests served a second at the rate of the overload, the median; None when all those steps were void.
        throughput_ratio: the derived point's throughput to this one's, in pairs of which the derived one was overloaded; None without a pair, and of the
            derived point itself.
        p99_ms: below the knee, the median; None when nothing was served.
        p99_ratio: the derived point's p99 to this one's, in pairs; None as above.
    """

    sizing: Sizing
    throughput: float | None
    throughput_ratio: Interval | None
    p99_ms: float | None
    p99_ratio: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep found.

    Attributes:
        derived: the point that the plan chooses.
        cells: every point.
        outcome: whether it was shown that the derived point is within `TOLERANCE` of the best, or that it is not, or neither.
        verdict: that in words, with the reason.
    """

    derived: Sizing
    cells: list[Cell]
    outcome: Outcome
    verdict: str


def visits(
    others: Sequence[Sizing], derived: Sizing, rounds: int, measure: Callable[[Sizing, int], Visit | None], seed: int = 1
) -> Iterator[Visit]:
    """Measure every other point once a round, two by two in an order that changes, and the derived one between the two; a visit may come to nothing."""
    chance = random.Random(seed)
    group = 0
    for _ in range(rounds):
        order = chance.sample(others, len(others))
        for first in range(0, len(order), 2):
            group += 1
            for point in (order[first], derived, *order[first + 1 : first + 2]):
                if (visit := measure(point, group)) is not None:
                    yield visit


def judged(found: Sequence[Visit], others: Sequence[Sizing], derived: Sizing, limits: Objectives) -> Swept:
    """Compare every point with the derived one.

    Which point is the best nobody knows for certain, and to take the one that happened to look best would be to take the luckiest. So the derived point
    is compared with every one: it is within 5 % of the best when it is within 5 % of each, interval included (an intersection-union test: each
    comparison at its level, and no correction for their number). Beside every point which may serve more its p99 must be no longer, in the middle: of a
    few thousand requests it varies too much for an interval of 5 %.

    Args:
        found: the visits.
        others: the points to compare with, whether or not a visit to them came to anything.
        derived: the point that the plan chooses.
        limits: of them, those of refusals and errors tell whether a normal step lay below the knee.
    """
    by_point: dict[Sizing, dict[int, Visit]] = {point: {} for point in (derived, *others)}
    for visit in found:
        by_point[visit.sizing][visit.group] = visit
    ours = by_point[derived]
    cells = [_cell(point, theirs, {} if point == derived else ours, limits) for point, theirs in by_point.items()]
    unmeasured = [cell.sizing for cell in cells if cell.throughput is None]
    outcome, verdict = _verdict(derived, [cell for cell in cells if cell.sizing != derived], unmeasured)
    return Swept(derived=derived, cells=cells, outcome=outcome, verdict=verdict)


def is_overloaded(step: Step) -> bool:
    """Whether a step of the derived point says how much it can serve."""
    return not step.void and LEAST_REFUSED <= step.total.refused_rate <= MOST_REFUSED


def _is_below_the_knee(step: Step, limits: Objectives) -> bool:
    kept = ((step.total.refused_rate, limits.refused_rate), (step.total.error_rate, limits.error_rate))
    return not step.void and all(limit is None or found <= limit for found, limit in kept)


def _cell(point: Sizing, theirs: Mapping[int, Visit], ours: Mapping[int, Visit], limits: Objectives) -> Cell:
    pairs = [(ours[group], visit) for group, visit in theirs.items() if group in ours]
    overloads = [(mine.overload, other.overload) for mine, other in pairs if is_overloaded(mine.overload) and not other.overload.void]
    normals = [(mine.normal, other.normal) for mine, other in pairs if all(_is_below_the_knee(one.normal, limits) for one in (mine, other))]
    p99s = [(mine.total.p99_ms, other.total.p99_ms) for mine, other in normals]
    p99_ratios = [mine / other for mine, other in p99s if mine is not None and other]
    return Cell(
        sizing=point,
        throughput=_median(visit.overload.served_per_second for visit in theirs.values() if not visit.overload.void),
        throughput_ratio=_interval([mine.served_per_second / max(1.0, other.served_per_second) for mine, other in overloads]),
        p99_ms=_median(visit.normal.total.p99_ms for visit in theirs.values() if not visit.normal.void),
        p99_ratio=_interval(p99_ratios),
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
        times = f"{served.values if served else 0} times under an overload of which {LEAST_REFUSED:.0%} to {MOST_REFUSED:.0%} was refused"
        return [], [f"{cell.sizing} was compared {times}, {FEWEST_VALUES} are needed"]
    worse: list[str] = []
    unclear: list[str] = []
    if served.low < 1 - TOLERANCE:
        (worse if served.high < 1 - TOLERANCE else unclear).append(f"beside {cell.sizing} it serves {share(served)}")
    # Who surely serves less is not the best, whatever its p99.
    if served.low < 1:
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
