"""The ledger: every movement of stock, oldest first, never changed."""

from app.core.db import ReadSession
from app.services.documents import FIRST_ID, PAGE_BOUND, Page, id_after, read_page

_MOVEMENT = """json_build_object(
    'id', movement.id, 'sku', variant.sku, 'location', location.code, 'delta_on_hand', movement.delta_on_hand, 'delta_reserved', movement.delta_reserved,
    'reason', movement.reason, 'reference', movement.reference, 'cause_id', movement.cause_id, 'created_by', movement.created_by,
    'created_at', movement.created_at
)"""

_LIST = f"""
SELECT {_MOVEMENT}::text, movement.id::text
FROM (SELECT * FROM stock_movement movement WHERE {{where}} ORDER BY {{order}} LIMIT {PAGE_BOUND}) AS movement
JOIN variant ON variant.id = movement.variant_id JOIN location ON location.id = movement.location_id
ORDER BY {{order}} LIMIT %(row_limit)s
"""

_VARIANT = "(SELECT id FROM variant WHERE sku = %(sku)s)"
_LOCATION = "(SELECT id FROM location WHERE code = %(location)s)"

# Ranges where an equality would do: only the index meant has this order, so that PostgreSQL cannot walk the whole ledger to look for what is rare in it.
_LIST_ALL = _LIST.format(where="movement.id > %(after)s", order="movement.id")
_LIST_OF_SKU = _LIST.format(
    where=f"(movement.variant_id, movement.id) > ({_VARIANT}, %(after)s) AND movement.variant_id <= {_VARIANT}",
    order="movement.variant_id, movement.id",
)
_LIST_AT_LOCATION = _LIST.format(
    where=f"(movement.location_id, movement.id) > ({_LOCATION}, %(after)s) AND movement.location_id <= {_LOCATION}",
    order="movement.location_id, movement.id",
)
_LIST_OF_SKU_AT_LOCATION = _LIST.format(
    where=f"(movement.variant_id, movement.id) > ({_VARIANT}, %(after)s) AND movement.variant_id <= {_VARIANT} AND movement.location_id = {_LOCATION}",
    order="movement.variant_id, movement.id",
)


async def list_movements(session: ReadSession, *, sku: str | None, location: str | None, limit: int, after: tuple[str, ...] | None) -> Page:
    """A page of movements (`MovementOut`), oldest first.

    Args:
        sku: only of this variant.
        location: only at the location with this code.
        limit: at most this many.
        after: the sort key to continue after.

    Raises:
        BadRequest: `after` is no key of this sort.
    """
    query = {
        (False, False): _LIST_ALL,
        (True, False): _LIST_OF_SKU,
        (False, True): _LIST_AT_LOCATION,
        (True, True): _LIST_OF_SKU_AT_LOCATION,
    }[sku is not None, location is not None]
    return await read_page(session, query, {"sku": sku, "location": location, "after": id_after(after) or FIRST_ID}, limit=limit)
