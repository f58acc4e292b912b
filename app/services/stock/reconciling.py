"""Whether the books agree: levels, ledger and reservations tell the same."""

from dataclasses import dataclass

from app.core.db import ReadSession

# One statement, so one snapshot: whatever is going on meanwhile, the three are compared as of the same moment.
_COMPARE = """
WITH ledger AS (
    SELECT variant_id, location_id, sum(delta_on_hand)::bigint AS on_hand, sum(delta_reserved)::bigint AS reserved
    FROM stock_movement GROUP BY variant_id, location_id
), held AS (
    SELECT line.variant_id, line.location_id, sum(line.quantity)::bigint AS quantity
    FROM reservation_line line JOIN reservation ON reservation.id = line.reservation_id
    WHERE reservation.status = 'active' GROUP BY line.variant_id, line.location_id
), compared AS (
    SELECT variant_id, location_id,
        coalesce(level.on_hand, 0) AS level_on_hand, coalesce(ledger.on_hand, 0) AS ledger_on_hand,
        coalesce(level.reserved, 0) AS level_reserved, coalesce(ledger.reserved, 0) AS ledger_reserved, coalesce(held.quantity, 0) AS held
    FROM stock_level level
    FULL JOIN ledger USING (variant_id, location_id)
    FULL JOIN held USING (variant_id, location_id)
)
SELECT variant.sku, location.code, level_on_hand, ledger_on_hand, level_reserved, ledger_reserved, held
FROM compared JOIN variant ON variant.id = variant_id JOIN location ON location.id = location_id
WHERE level_on_hand <> ledger_on_hand OR level_reserved <> ledger_reserved OR level_reserved <> held
ORDER BY variant.sku, location.code
"""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A level about which the books disagree; all numbers in units."""

    sku: str
    location: str
    level_on_hand: int
    ledger_on_hand: int
    level_reserved: int
    ledger_reserved: int
    held: int

    def __str__(self) -> str:
        found = []
        if self.level_on_hand != self.ledger_on_hand:
            found.append(f"on hand is {self.level_on_hand}, the ledger's sum is {self.ledger_on_hand}")
        if self.level_reserved != self.ledger_reserved:
            found.append(f"reserved is {self.level_reserved}, the ledger's sum is {self.ledger_reserved}")
        if self.level_reserved != self.held:
            found.append(f"reserved is {self.level_reserved}, active reservations hold {self.held}")
        return f"{self.sku} at {self.location}: {'; '.join(found)}"


async def reconcile(session: ReadSession) -> list[Discrepancy]:
    """Everything that is off, by SKU and location; empty when the books agree."""
    return [Discrepancy(*row) for row in await session.fetch_all(_COMPARE)]
