"""Setting stock: the difference to what is on hand becomes a movement."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

import orjson
from psycopg.types.json import Json

from app.core.db import WriteSession
from app.services.imports.summary import Tally
from app.services.stock import LevelChange, apply_changes

_WANTED = """wanted AS (
    SELECT variant.id AS variant_id, location.id AS location_id, wanted.on_hand
    FROM json_to_recordset(%(levels)s) AS wanted (sku text, code text, on_hand bigint) JOIN variant USING (sku) JOIN location USING (code)
)"""

_MAKE_LOCATION = "INSERT INTO location (code, name) VALUES (%(code)s, %(code)s) ON CONFLICT (code) DO NOTHING RETURNING code"

_MAKE_LEVELS = f"""
WITH {_WANTED}, made AS (
    INSERT INTO stock_level (variant_id, location_id, on_hand) SELECT variant_id, location_id, on_hand FROM wanted
    ORDER BY variant_id, location_id ON CONFLICT DO NOTHING RETURNING variant_id, location_id, on_hand
), moved AS (
    INSERT INTO stock_movement (variant_id, location_id, delta_on_hand, delta_reserved, reason, cause_id)
    SELECT variant_id, location_id, on_hand, 0, %(reason)s, %(import_id)s FROM made WHERE on_hand > 0
)
SELECT count(*) FROM made
"""

# Levels that are right already are not locked, so importing the same again holds nobody up.
_LOCK_WRONG = f"""
WITH {_WANTED}
SELECT level.variant_id, level.location_id, wanted.on_hand - level.on_hand
FROM wanted JOIN stock_level level USING (variant_id, location_id) WHERE level.on_hand <> wanted.on_hand
ORDER BY level.variant_id, level.location_id FOR UPDATE OF level
"""

_REASON: Final = "imported"


async def make_location(session: WriteSession, code: str) -> bool:
    """Make a location that has only a code, unless there is one with that code; says whether it did."""
    return await session.fetch_one(_MAKE_LOCATION, {"code": code}) is not None


async def set_stock(session: WriteSession, on_hand: Mapping[tuple[str, str], int], *, import_id: UUID) -> Tally:
    """Set how many units are on hand, whatever is reserved.

    Args:
        on_hand: units by SKU and location code, all of which exist; never negative.
        import_id: the `cause_id` of the movements.
    """
    levels = Json([{"sku": sku, "code": code, "on_hand": units} for (sku, code), units in on_hand.items()], orjson.dumps)
    made = await session.fetch_one(_MAKE_LEVELS, {"levels": levels, "reason": _REASON, "import_id": import_id})
    created: int = made[0] if made else 0
    wrong = await session.fetch_all(_LOCK_WRONG, {"levels": levels})
    if wrong:
        await apply_changes(session, [LevelChange(*row) for row in wrong], reason=_REASON, cause_id=import_id)
    return Tally(created=created, updated=len(wrong), unchanged=len(on_hand) - created - len(wrong))
