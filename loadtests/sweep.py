"""The sweep: workers x pool size around the derived point, to see whether another choice would have been better.

Every round measures every point once, in an order of its own, so that what the machine does meanwhile hits all alike; points are compared within a round.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadtests.bootstrap import Interval, interval
from loadtests.deployment import Sizing
from loadtests.steps import Step

TOLERANCE = 0.95
"""The derived point is right when its throughput is at least this share of the best one's, as far as the interval tells."""


MOST_SPREAD = 0.3
"""When rounds of the derived point alone differ by more than this share of their median, the machine was too restless to tell anything."""


class NothingMeasuredError(Exception):
    """There is nothing to compare with."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A point measured once.

    Args:
        sizing: which point.
        round: in which round, from 1.
        overload: a step above what can be served: what is served then is the throughput.
        normal: a step below it: its p99 is the latency.
    """

    sizing: Sizing
    round: int
    overload: Step
    normal: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A point over all rounds.

    Attributes:
        sizing: which point.
        throughput: requests served a second under overload, the median.
        throughput_ratio: the derived point's throughput to this one's, in pairs.
        p99_ms: below the knee, the median; None when nothing was served.
        p99_ratio: the derived point's p99 to this one's, in pairs; None when one had none.
        peak_connections: the most seen.
    """

    sizing: Sizing
    throughput: float
    throughput_ratio: Interval
    p99_ms: float | None
    p99_ratio: Interval | None
    peak_connections: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep found.

    Attributes:
        derived: the point that the plan chooses.
        cells: every point.
        best: the point with the most throughput.
        spread: by how much the derived point's throughput differed from round to round, as a share of its median.
        holds: whether the derived point is as good as it claims.
        verdict: that in words.
    """

    derived: Sizing
    cells: list[Cell]
    best: Sizing
    spread: float
    holds: bool
    verdict: str

    @property
    def is_void(self) -> bool:
        """Whether nothing could be told."""
        return self.spread > MOST_SPREAD


def visits(points: Sequence[Sizing], rounds: int, measure: Callable[[Sizing, int], Visit], seed: int = 1) -> Iterator[Visit]:
    """Measure every point once a round, in an order that changes from round to round."""
    chance = random.Random(seed)
    for number in range(1, rounds + 1):
        for point in chance.sample(points, len(points)):
            yield measure(point, number)


def judged(found: Sequence[Visit], derived: Sizing) -> Swept:
    """Compare every point with the derived one, in rounds in which neither was void.

    Raises:
        NothingMeasuredError: there is no such round of the derived point.
    """
    by_point: dict[Sizing, dict[int, Visit]] = {}
    for visit in found:
        if not (visit.overload.void or visit.normal.void):
            by_point.setdefault(visit.sizing, {})[visit.round] = visit
    if derived not in by_point:
        raise NothingMeasuredError(f"the derived point {derived} was not measured: none of its steps counts")
    cells = [_cell(point, rounds, by_point[derived]) for point, rounds in by_point.items() if rounds.keys() & by_point[derived].keys()]
    best = max(cells, key=lambda cell: cell.throughput)
    enough = best.throughput_ratio.high >= TOLERANCE
    no_worse = best.p99_ratio is None or best.p99_ratio.low <= 1
    ours = sorted(visit.overload.served_per_second for visit in by_point[derived].values())
    spread = (ours[-1] - ours[0]) / max(1e-9, ours[len(ours) // 2])
    return Swept(
        derived=derived,
        cells=cells,
        best=best.sizing,
        spread=spread,
        holds=enough and no_worse,
        verdict=_words(derived, best, enough=enough, no_worse=no_worse),
    )


def _cell(point: Sizing, rounds: Mapping[int, Visit], derived: Mapping[int, Visit]) -> Cell:
    paired = [(derived[number], visit) for number, visit in rounds.items() if number in derived]
    p99 = [(ours.normal.total.p99_ms, theirs.normal.total.p99_ms) for ours, theirs in paired]
    known = sorted(theirs for _, theirs in p99 if theirs is not None)
    ratios = [ours / theirs for ours, theirs in p99 if ours is not None and theirs]
    throughputs = sorted(visit.overload.served_per_second for visit in rounds.values())
    peaks = [step.server.peak_connections for visit in rounds.values() for step in (visit.overload, visit.normal) if step.server]
    return Cell(
        sizing=point,
        throughput=throughputs[len(throughputs) // 2],
        throughput_ratio=interval(
            [ours.overload.served_per_second / max(1e-9, theirs.overload.served_per_second) for ours, theirs in paired]
        ),
        p99_ms=known[len(known) // 2] if known else None,
        p99_ratio=interval(ratios) if ratios else None,
        peak_connections=max((peak for peak in peaks if peak is not None), default=None),
    )


def _words(derived: Sizing, best: Cell, *, enough: bool, no_worse: bool) -> str:
    if best.sizing == derived:
        return f"the derived sizing ({derived}) is the best point of the sweep"
    ratio = best.throughput_ratio
    found = f"{ratio.median:.1%} of the best point's ({best.sizing}; 95 % interval {ratio.low:.1%} to {ratio.high:.1%})"
    text = f"the derived sizing ({derived}) serves {found}"
    if not enough:
        text += f", less than {TOLERANCE:.0%}"
    if best.p99_ratio is not None:
        text += f"; its p99 is {best.p99_ratio.median:.2f} times that one's ({best.p99_ratio.low:.2f} to {best.p99_ratio.high:.2f})"
        text += "" if no_worse else ", which is worse"
    return text
