"""Adjustments: stock that came, went, or was counted."""

from collections import Counter
from uuid import UUID

import orjson

from app.core.db import WriteSession
from app.core.metrics import ADJUST_REFUSALS
from app.core.problems import InsufficientStock, NotFound
from app.schemas.stock import AdjustmentCreate
from app.services.documents import Document
from app.services.stock.levels import LevelChange, apply_changes

# The last column is the new adjustment's id, the same in every row: made here, it costs no round trip.
_RESOLVE = """
SELECT wanted.sku, wanted.code, variant.id, location.id, (SELECT uuid_v7())
FROM unnest(%(skus)s::text[], %(codes)s::text[]) AS wanted (sku, code)
LEFT JOIN variant ON variant.sku = wanted.sku LEFT JOIN location ON location.code = wanted.code
ORDER BY variant.id, location.id
"""

_MAKE_LEVELS = """
INSERT INTO stock_level (variant_id, location_id) SELECT * FROM unnest(%(variant_ids)s::uuid[], %(location_ids)s::uuid[]) AS wanted (variant_id, location_id)
ORDER BY variant_id, location_id ON CONFLICT DO NOTHING
"""

_LOCK = """
SELECT level.variant_id, level.location_id, level.on_hand
FROM stock_level level JOIN unnest(%(variant_ids)s::uuid[], %(location_ids)s::uuid[]) AS wanted (variant_id, location_id) USING (variant_id, location_id)
ORDER BY level.variant_id, level.location_id FOR UPDATE OF level
"""


async def adjust(session: WriteSession, wanted: AdjustmentCreate, *, by: UUID) -> Document:
    """Change what is on hand: every line, or none.

    Args:
        wanted: lines for the same SKU and location are summed.
        by: the user who did it.

    Returns:
        The adjustment (`AdjustmentOut`) with the levels after it.

    Raises:
        NotFound: a SKU or location that does not exist; names all of them.
        InsufficientStock: what is on hand would fall below zero; names every such line.
    """
    deltas: Counter[tuple[str, str]] = Counter()
    for line in wanted.lines:
        deltas[line.sku, line.location] += line.delta
    resolved = await session.fetch_all(_RESOLVE, {"skus": [sku for sku, _ in deltas], "codes": [code for _, code in deltas]})
    _check_existence([(row[0], row[2]) for row in resolved], [(row[1], row[3]) for row in resolved])
    ids = {"variant_ids": [row[2] for row in resolved], "location_ids": [row[3] for row in resolved]}
    await session.fetch_all(_MAKE_LEVELS, ids)
    on_hand = {(row[0], row[1]): row[2] for row in await session.fetch_all(_LOCK, ids)}
    short = [
        {"sku": sku, "location": code, "requested": -deltas[sku, code], "available": on_hand[variant_id, location_id]}
        for sku, code, variant_id, location_id, _ in resolved
        if on_hand[variant_id, location_id] + deltas[sku, code] < 0
    ]
    if short:
        ADJUST_REFUSALS.inc()
        raise InsufficientStock(short, "There is less on hand than would go.")
    changes = [LevelChange(row[2], row[3], delta_on_hand=deltas[row[0], row[1]]) for row in resolved]
    adjustment_id = resolved[0][4]
    levels = await apply_changes(session, changes, reason=wanted.reason, reference=wanted.reference, cause_id=adjustment_id, created_by=by)
    return Document(b'{"id":' + orjson.dumps(adjustment_id) + b',"lines":[' + b",".join(levels) + b"]}")


def _check_existence(skus: list[tuple[str, UUID | None]], codes: list[tuple[str, UUID | None]]) -> None:
    missing = [f"no variant {sku}" for sku in sorted({sku for sku, found in skus if found is None})]
    missing += [f"no location {code}" for code in sorted({code for code, found in codes if found is None})]
    if missing:
        raise NotFound(f"There is {' and '.join(missing)}.")
