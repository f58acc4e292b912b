"""What an import did."""

from dataclasses import dataclass, field
from typing import Self
from uuid import UUID, uuid4


@dataclass(slots=True)
class Tally:
    """How many things of one kind were made, changed, and found to be as the file has them."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0

    def __iadd__(self, other: Self) -> Self:
        self.created += other.created
        self.updated += other.updated
        self.unchanged += other.unchanged
        return self


@dataclass(slots=True)
class Stored:
    """What one batch did."""

    products: Tally = field(default_factory=Tally)
    variants: Tally = field(default_factory=Tally)
    categories: Tally = field(default_factory=Tally)
    locations: Tally = field(default_factory=Tally)
    stock_levels: Tally = field(default_factory=Tally)
    """A level is updated when its units on hand change."""
    derived_skus: int = 0
    """Variants that came without a SKU and have one made from their product's slug and their options."""
    default_location_made: bool = False
    """Whether the location for stock that names none had to be made; it is not counted in `locations`."""


@dataclass(slots=True)
class Summary(Stored):
    """What an import has done so far.

    Attributes:
        import_id: the `cause_id` of its stock movements.
        rows: rows dealt with, those that failed included.
        failed_rows: rows that could not be read or stored.
        last_line: the line of the last of them.
    """

    import_id: UUID = field(default_factory=uuid4)
    rows: int = 0
    failed_rows: int = 0
    last_line: int = 0

    @property
    def has_changes(self) -> bool:
        """Whether anything was made or changed."""
        tallies = (self.products, self.variants, self.categories, self.locations, self.stock_levels)
        return self.default_location_made or any(tally.created or tally.updated for tally in tallies)

    def add(self, batch: Stored) -> None:
        """Count what a batch did."""
        self.products += batch.products
        self.variants += batch.variants
        self.categories += batch.categories
        self.locations += batch.locations
        self.stock_levels += batch.stock_levels
        self.derived_skus += batch.derived_skus
        self.default_location_made |= batch.default_location_made
