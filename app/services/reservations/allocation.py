"""Which stock to take for a reservation: arithmetic on levels that are already locked."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


class Line(Protocol):
    """Units that are wanted, at one location or, with None, at any."""

    sku: str
    quantity: int
    location: str | None


@dataclass(frozen=True, slots=True)
class Want:
    """All the units of a SKU that a reservation wants at one location, or at any."""

    sku: str
    location: str | None
    quantity: int


@dataclass(frozen=True, slots=True)
class Level:
    """What can be taken of a SKU at one location; `available` may be negative."""

    sku: str
    location: str
    variant_id: UUID
    location_id: UUID
    available: int


@dataclass(frozen=True, slots=True)
class Take:
    """Units to hold at one level."""

    level: Level
    quantity: int


@dataclass(frozen=True, slots=True)
class Short:
    """A want that cannot be met; `available` is the most that one location could still give, never below 0."""

    want: Want
    available: int


def combine(lines: Iterable[Line]) -> list[Want]:
    """The lines with those for the same SKU and location summed, so that two lines cannot both count on the same units."""
    sums: Counter[tuple[str, str | None]] = Counter()
    for line in lines:
        sums[line.sku, line.location] += line.quantity
    return [Want(sku, location, quantity) for (sku, location), quantity in sums.items()]


def allocate(wants: Sequence[Want], levels: Sequence[Level]) -> tuple[list[Take], list[Short]]:
    """Where to take what is wanted.

    A want with a location is met there. One without is met whole at one location: the one with the most available, and of equals the first by code. Those
    with a location go first, because they have no choice.

    Returns:
        What to take, at most one take for each level, and every want that cannot be met. Take only when nothing is short.
    """
    left = {(level.sku, level.location): level.available for level in levels}
    taken: Counter[tuple[str, str]] = Counter()
    short = []
    for want in sorted(wants, key=lambda want: want.location is None):
        places = [place for place in left if place[0] == want.sku and want.location in (None, place[1])]
        best = min(places, key=lambda place: (-left[place], place[1]), default=None)
        if best is None or left[best] < want.quantity:
            short.append(Short(want, max(0, left[best]) if best else 0))
            continue
        left[best] -= want.quantity
        taken[best] += want.quantity
    return [Take(level, taken[level.sku, level.location]) for level in levels if taken[level.sku, level.location]], short
