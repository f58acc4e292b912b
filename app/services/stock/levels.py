"""Stock levels: reading them, and the one way to change them.

Whoever changes levels first locks them in the order of (variant, location), in one statement with `ORDER BY ... FOR UPDATE`. As everybody takes the locks in
the same order, nobody can wait for each other in a circle (PostgreSQL manual, "Deadlocks").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from app.core.db import ReadSession, WriteSession
from app.core.problems import BadRequest
from app.services.documents import FIRST_ID, PAGE_BOUND, Page, read_page

AVAILABLE = "CASE WHEN location.active THEN level.on_hand - level.reserved ELSE least(level.on_hand - level.reserved, 0) END"
"""What can be reserved of a level: nothing at an inactive location. Below zero it is a shortfall, wherever it is."""

LEVEL = f"""json_build_object(
    'sku', variant.sku, 'location', location.code, 'on_hand', level.on_hand, 'reserved', level.reserved, 'available', {AVAILABLE},
    'updated_at', level.updated_at
)"""
"""One level (`StockLevelOut`) of the tables `level`, `variant` and `location`."""

_LIST = f"""
SELECT {LEVEL}::text, level.variant_id::text, level.location_id::text
FROM (SELECT * FROM stock_level level WHERE {{where}} ORDER BY {{order}} LIMIT {PAGE_BOUND}) AS level
JOIN variant ON variant.id = level.variant_id JOIN location ON location.id = level.location_id
ORDER BY {{order}} LIMIT %(row_limit)s
"""

_LOCATION = "(SELECT id FROM location WHERE code = %(location)s)"
_AFTER = "(level.variant_id, level.location_id) > (%(after_variant)s, %(after_location)s)"
# The SKUs are read from a subquery, so that PostgreSQL does not plan anew for how many they are: that takes longer than looking them up.
_OF_SKUS = f"{_AFTER} AND level.variant_id = ANY(ARRAY(SELECT id FROM variant WHERE sku = ANY(ARRAY(SELECT unnest(%(skus)s::text[])))))"

_LIST_ALL = _LIST.format(where=_AFTER, order="level.variant_id, level.location_id")
_LIST_OF_SKUS = _LIST.format(where=_OF_SKUS, order="level.variant_id, level.location_id")
_LIST_OF_SKUS_AT_LOCATION = _LIST.format(
    where=f"{_OF_SKUS} AND level.location_id = {_LOCATION}", order="level.variant_id, level.location_id"
)
# A range where an equality would do: only the index meant has this order, so that PostgreSQL cannot walk all levels to look for a place with few.
_LIST_AT_LOCATION = _LIST.format(
    where=f"(level.location_id, level.variant_id) > ({_LOCATION}, %(after_variant)s) AND level.location_id <= {_LOCATION}",
    order="level.location_id, level.variant_id",
)

CHANGE = """change AS (
    SELECT * FROM unnest(%(variant_ids)s::uuid[], %(location_ids)s::uuid[], %(deltas_on_hand)s::bigint[], %(deltas_reserved)s::bigint[])
        AS change (variant_id, location_id, delta_on_hand, delta_reserved)
), moved AS (
    INSERT INTO stock_movement (variant_id, location_id, delta_on_hand, delta_reserved, reason, reference, cause_id, created_by)
    SELECT variant_id, location_id, delta_on_hand, delta_reserved, %(reason)s, {reference}, {cause_id}, %(created_by)s FROM change
    WHERE delta_on_hand <> 0 OR delta_reserved <> 0
), changed AS (
    UPDATE stock_level level SET on_hand = level.on_hand + change.delta_on_hand, reserved = level.reserved + change.delta_reserved, updated_at = now()
    FROM change WHERE level.variant_id = change.variant_id AND level.location_id = change.location_id
    RETURNING level.*
)"""
"""The steps of a statement that changes levels and writes the ledger: one movement for each change that moves something, one change for each level, all
locked before."""

_APPLY = f"""
WITH {CHANGE.format(reference="%(reference)s", cause_id="%(cause_id)s")}
SELECT {LEVEL}::text
FROM changed level JOIN variant ON variant.id = level.variant_id JOIN location ON location.id = level.location_id
ORDER BY variant.sku, location.code
"""


@dataclass(frozen=True, slots=True)
class LevelChange:
    """By how many units a level changes."""

    variant_id: UUID
    location_id: UUID
    delta_on_hand: int = 0
    delta_reserved: int = 0


def change_parameters(changes: Sequence[LevelChange]) -> dict[str, object]:
    """The parameters of `CHANGE` for these changes."""
    return {
        "variant_ids": [change.variant_id for change in changes],
        "location_ids": [change.location_id for change in changes],
        "deltas_on_hand": [change.delta_on_hand for change in changes],
        "deltas_reserved": [change.delta_reserved for change in changes],
    }


async def apply_changes(
    session: WriteSession,
    changes: Sequence[LevelChange],
    *,
    reason: str,
    cause_id: UUID,
    reference: str | None = None,
    created_by: UUID | None = None,
) -> list[bytes]:
    """Change levels that the caller has locked, and write the ledger.

    Args:
        changes: at most one for each level.
        reason: as in `StockMovement.reason`.
        cause_id: what the movements have in common.

    Returns:
        The levels after the change, as JSON (`StockLevelOut`), by SKU and location.
    """
    rows = await session.fetch_all(
        _APPLY, {**change_parameters(changes), "reason": reason, "reference": reference, "cause_id": cause_id, "created_by": created_by}
    )
    return [row[0].encode() for row in rows]


async def list_levels(
    session: ReadSession, *, skus: Sequence[str], location: str | None, limit: int, after: tuple[str, ...] | None
) -> Page:
    """A page of levels (`StockLevelOut`) by variant and location, in the order in which they were made.

    Args:
        skus: only these; empty for all.
        location: only at the location with this code.
        limit: at most this many.
        after: the sort key to continue after.

    Raises:
        BadRequest: `after` is no key of this sort.
    """
    after_variant, after_location = _after(after)
    query = {
        (False, False): _LIST_ALL,
        (True, False): _LIST_OF_SKUS,
        (False, True): _LIST_AT_LOCATION,
        (True, True): _LIST_OF_SKUS_AT_LOCATION,
    }[bool(skus), location is not None]
    parameters = {"skus": list(skus), "location": location, "after_variant": after_variant, "after_location": after_location}
    return await read_page(session, query, parameters, limit=limit)


def _after(after: tuple[str, ...] | None) -> tuple[UUID, UUID]:
    try:
        match after:
            case None:
                return FIRST_ID, FIRST_ID
            case (variant_id, location_id):
                return UUID(variant_id), UUID(location_id)
    except ValueError:
        pass
    raise BadRequest("The cursor belongs to another list; send it with the parameters it was given for, or none to start anew.")
