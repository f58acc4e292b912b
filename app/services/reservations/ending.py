"""Ending reservations: the units are sold, given back, or the time is up."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from psycopg.rows import TupleRow

from app.core.db import WriteSession
from app.core.metrics import COMMIT_REFUSALS, COMMITTED, EXPIRED, RELEASED
from app.core.problems import Conflict, InsufficientStock, NotFound
from app.services.documents import Document
from app.services.reservations.holding import RESERVATION, STORED_LINES
from app.services.stock.levels import CHANGE, LevelChange, change_parameters

# The reservation first, then its levels in the order in which all levels are locked.
_LOCK = """
SELECT CASE WHEN reservation.status = 'active' AND reservation.expires_at <= clock_timestamp() THEN 'expired' ELSE reservation.status END,
    variant.sku, location.code, line.variant_id, line.location_id, line.quantity, level.on_hand
FROM reservation
JOIN reservation_line line ON line.reservation_id = reservation.id
JOIN stock_level level ON level.variant_id = line.variant_id AND level.location_id = line.location_id
JOIN variant ON variant.id = line.variant_id JOIN location ON location.id = line.location_id
WHERE reservation.id = %(id)s
ORDER BY level.variant_id, level.location_id FOR UPDATE OF reservation, level
"""

_END = f"""
WITH reservation AS (
    UPDATE reservation SET status = %(status)s, updated_at = now() WHERE id = %(id)s RETURNING *
), {CHANGE.format(reference="(SELECT reference FROM reservation)", cause_id="%(id)s")}
SELECT {RESERVATION.format(lines=STORED_LINES)} FROM reservation
"""

_CLAIM_DUE = """
SELECT id FROM reservation WHERE status = 'active' AND expires_at <= clock_timestamp()
ORDER BY expires_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
"""

_EXPIRE = """
WITH line AS MATERIALIZED (
    SELECT * FROM reservation_line WHERE reservation_id = ANY(%(ids)s)
), ended AS (
    UPDATE reservation SET status = 'expired', updated_at = now() WHERE id = ANY(%(ids)s) RETURNING id, reference
), moved AS (
    INSERT INTO stock_movement (variant_id, location_id, delta_on_hand, delta_reserved, reason, reference, cause_id)
    SELECT line.variant_id, line.location_id, 0, -line.quantity, 'expired', ended.reference, ended.id FROM line JOIN ended ON ended.id = line.reservation_id
)
UPDATE stock_level level SET reserved = level.reserved - freed.quantity, updated_at = now()
FROM (SELECT variant_id, location_id, sum(quantity) AS quantity FROM line GROUP BY variant_id, location_id) AS freed
WHERE level.variant_id = freed.variant_id AND level.location_id = freed.location_id
"""

_LOCK_FREED = """
SELECT FROM stock_level level
WHERE (level.variant_id, level.location_id) IN (SELECT variant_id, location_id FROM reservation_line WHERE reservation_id = ANY(%(ids)s))
ORDER BY level.variant_id, level.location_id FOR UPDATE
"""


async def commit(session: WriteSession, reservation_id: UUID, *, by: UUID) -> Document:
    """The held units are sold: they leave what is on hand and what is reserved.

    Raises:
        NotFound: there is none with that id.
        Conflict: it is not active any more.
        InsufficientStock: a count has found fewer units than were held; names every such line.
    """
    lines = await _lock_active(session, reservation_id, "committed")
    short = [
        {"sku": sku, "location": code, "requested": quantity, "available": on_hand}
        for _, sku, code, _, _, quantity, on_hand in lines
        if on_hand < quantity
    ]
    if short:
        COMMIT_REFUSALS.inc()
        raise InsufficientStock(short, "There is less on hand than was held: stock was counted down in the meantime.")
    changes = [LevelChange(line[3], line[4], delta_on_hand=-line[5], delta_reserved=-line[5]) for line in lines]
    session.when_committed(COMMITTED.inc)
    return await _end(session, reservation_id, changes, status="committed", by=by)


async def release(session: WriteSession, reservation_id: UUID, *, by: UUID) -> Document:
    """The held units are given back.

    Raises:
        NotFound: there is none with that id.
        Conflict: it is not active any more.
    """
    lines = await _lock_active(session, reservation_id, "released")
    changes = [LevelChange(line[3], line[4], delta_reserved=-line[5]) for line in lines]
    session.when_committed(RELEASED.inc)
    return await _end(session, reservation_id, changes, status="released", by=by)


async def expire_due(session: WriteSession, *, most: int = 200) -> int:
    """Give back the units of reservations whose time is up.

    Any number of sweepers may run at once: each takes those that no other has.

    Args:
        most: how many reservations to end in this transaction.

    Returns:
        How many it ended; `most` means that there may be more.
    """
    ids = [row[0] for row in await session.fetch_all(_CLAIM_DUE, {"most": most})]
    if ids:
        await session.fetch_all(_LOCK_FREED, {"ids": ids})
        await session.fetch_all(_EXPIRE, {"ids": ids})
        session.when_committed(partial(EXPIRED.inc, len(ids)))
    return len(ids)


async def _lock_active(session: WriteSession, reservation_id: UUID, wanted: str) -> list[TupleRow]:
    lines = await session.fetch_all(_LOCK, {"id": reservation_id})
    if not lines:
        raise NotFound(f"There is no reservation {reservation_id}.")
    if (status := lines[0][0]) != "active":
        raise Conflict(f"This reservation is {status}; only an active one can be {wanted}.", reservation_status=status)
    return lines


async def _end(session: WriteSession, reservation_id: UUID, changes: Sequence[LevelChange], *, status: str, by: UUID) -> Document:
    rows = await session.fetch_all(
        _END, {**change_parameters(changes), "id": reservation_id, "status": status, "reason": status, "created_by": by}
    )
    return Document(rows[0][0].encode())
