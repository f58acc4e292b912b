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
from loadtests.steps import Step

TOLERANCE = 0.05
"""By so much may another point serve more, or have a shorter p99, before the derived one is called worse."""

OVERLOADED = 0.05
"""The share of requests from which on a step was one of overload: what is served whole says nothing of the most that can be served."""

Outcome = Literal["shown", "refuted", "not shown"]


class NothingMeasuredError(Exception):
    """There is nothing to compare with."""


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

    @property
    def throughput(self) -> float | None:
        """Requests served a second under overload; None when the step was void, or none."""
        was_overloaded = not self.overload.void and self.overload.total.refused_rate >= OVERLOADED
        return max(1.0, self.overload.served_per_second) if was_overloaded else None

    @property
    def p99_ms(self) -> float | None:
        """Below the knee; None when the step was void, or served nothing."""
        return None if self.normal.void else self.normal.total.p99_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A point over all its visits.

    Attributes:
        sizing: which point.
        throughput: requests served a second under overload, the median; None when it was never overloaded.
        throughput_ratio: the derived point's throughput to this one's, in pairs; None without a pair, and of the derived point itself.
        p99_ms: below the knee, the median; None when nothing was served.
        p99_ratio: the derived point's p99 to this one's, in pairs; None as above.
        peak_connections: the most seen.
    """

    sizing: Sizing
    throughput: float | None
    throughput_ratio: Interval | None
    p99_ms: float | None
    p99_ratio: Interval | None
    peak_connections: int | None


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
    others: Sequence[Sizing], derived: Sizing, rounds: int, measure: Callable[[Sizing, int], Visit], seed: int = 1
) -> Iterator[Visit]:
    """Measure every other point once a round, two by two in an order that changes, and the derived one between the two."""
    chance = random.Random(seed)
    group = 0
    for _ in range(rounds):
        order = chance.sample(others, len(others))
        for first in range(0, len(order), 2):
            group += 1
            for point in (order[first], derived, *order[first + 1 : first + 2]):
                yield measure(point, group)


def judged(found: Sequence[Visit], derived: Sizing) -> Swept:
    """Compare every point with the derived one.

    Which point is the best nobody knows for certain, and to take the one that happened to look best would be to take the luckiest. So the derived point
    is compared with every one: it is within 5 % of the best when it is within 5 % of each, interval included (an intersection-union test: each
    comparison at its level, and no correction for their number). Its p99 must stand beside that of every point which may serve more.

    Raises:
        NothingMeasuredError: the derived point was never measured.
    """
    by_point: dict[Sizing, dict[int, Visit]] = {}
    for visit in found:
        by_point.setdefault(visit.sizing, {})[visit.group] = visit
    ours = by_point.get(derived, {})
    if all(visit.throughput is None for visit in ours.values()):
        raise NothingMeasuredError(f"the derived point {derived} was not measured: none of its steps counts")
    cells = [_cell(point, theirs, {} if point == derived else ours) for point, theirs in by_point.items()]
    outcome, verdict = _verdict(derived, [cell for cell in cells if cell.sizing != derived])
    return Swept(derived=derived, cells=cells, outcome=outcome, verdict=verdict)


def _cell(point: Sizing, theirs: Mapping[int, Visit], ours: Mapping[int, Visit]) -> Cell:
    pairs = [(ours[group], visit) for group, visit in theirs.items() if group in ours]
    peaks = [step.server.peak_connections for visit in theirs.values() for step in (visit.overload, visit.normal) if step.server]
    return Cell(
        sizing=point,
        throughput=_median(visit.throughput for visit in theirs.values()),
        throughput_ratio=_ratios((mine.throughput, other.throughput) for mine, other in pairs),
        p99_ms=_median(visit.p99_ms for visit in theirs.values()),
        p99_ratio=_ratios((mine.p99_ms, other.p99_ms) for mine, other in pairs),
        peak_connections=max((peak for peak in peaks if peak is not None), default=None),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _ratios(pairs: Iterable[tuple[float | None, float | None]]) -> Interval | None:
    ratios = [mine / other for mine, other in pairs if mine is not None and other]
    return interval(ratios) if ratios else None


def _verdict(derived: Sizing, others: Sequence[Cell]) -> tuple[Outcome, str]:
    worse, unclear = [], []
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
        return [], [f"{cell.sizing} was compared {served.values if served else 0} times under overload, {FEWEST_VALUES} are needed"]
    worse: list[str] = []
    unclear: list[str] = []
    if served.low < 1 - TOLERANCE:
        (worse if served.high < 1 - TOLERANCE else unclear).append(f"beside {cell.sizing} it serves {share(served)}")
    # Who surely serves less is not the best, whatever its p99.
    if served.low < 1:
        if p99 is None or p99.values < FEWEST_VALUES:
            unclear.append(f"the p99 was compared with that of {cell.sizing} {p99.values if p99 else 0} times, {FEWEST_VALUES} are needed")
        elif p99.high > 1 + TOLERANCE:
            (worse if p99.low > 1 + TOLERANCE else unclear).append(f"beside {cell.sizing} its p99 is {share(p99)}")
    return worse, unclear


def _lower_bound(cell: Cell) -> float:
    return cell.throughput_ratio.low if cell.throughput_ratio else 0.0


def share(found: Interval) -> str:
    """A ratio in words."""
    return f"{found.median:.1%} ({found.low:.1%} to {found.high:.1%})"
