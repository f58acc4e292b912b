"""Making, reading and extending reservations."""

from datetime import timedelta
from uuid import UUID

from app.core.db import ReadSession, WriteSession
from app.core.metrics import HELD, RESERVE_REFUSALS
from app.core.problems import Conflict, InsufficientStock, NotFound
from app.schemas.reservations import ReservationCreate
from app.services.documents import Document
from app.services.reservations.allocation import Level, Want, allocate, combine
from app.services.stock.levels import AVAILABLE, CHANGE, LevelChange, change_parameters

# "Active" means not expired, swept or not.
RESERVATION = """json_build_object(
    'id', reservation.id,
    'status', CASE WHEN reservation.status = 'active' AND reservation.expires_at <= clock_timestamp() THEN 'expired' ELSE reservation.status END,
    'lines', (
        SELECT json_agg(json_build_object('sku', variant.sku, 'quantity', line.quantity, 'location', location.code) ORDER BY variant.sku, location.code)
        FROM {lines} JOIN variant ON variant.id = line.variant_id JOIN location ON location.id = line.location_id
    ),
    'reference', reservation.reference, 'expires_at', reservation.expires_at,
    'created_at', reservation.created_at, 'updated_at', reservation.updated_at
)::text"""
"""A reservation (`ReservationOut`) of the table `reservation`, with its lines from wherever they are."""

STORED_LINES = "(SELECT * FROM reservation_line WHERE reservation_id = reservation.id) AS line"

_GET = f"SELECT {RESERVATION.format(lines=STORED_LINES)} FROM reservation WHERE id = %(id)s"

# Every level that could be needed, in the one order in which levels are locked.
_LOCK_LEVELS = f"""
SELECT variant.sku, location.code, level.variant_id, level.location_id, {AVAILABLE}
FROM stock_level level
JOIN variant ON variant.id = level.variant_id JOIN product ON product.id = variant.product_id JOIN location ON location.id = level.location_id
WHERE variant.sku = ANY(%(skus)s) AND NOT variant.archived AND product.status <> 'archived' AND EXISTS (
    SELECT FROM unnest(%(skus)s::text[], %(codes)s::text[]) AS wanted (sku, code)
    WHERE wanted.sku = variant.sku AND (wanted.code IS NULL OR wanted.code = location.code)
)
ORDER BY level.variant_id, level.location_id FOR UPDATE OF level
"""

_MISSING = """
SELECT 'no variant ' || sku FROM unnest(%(skus)s::text[]) AS wanted (sku)
WHERE NOT EXISTS (
    SELECT FROM variant JOIN product ON product.id = variant.product_id WHERE variant.sku = wanted.sku AND NOT variant.archived AND product.status <> 'archived'
)
UNION
SELECT 'no location ' || code FROM unnest(%(codes)s::text[]) AS wanted (code)
WHERE code IS NOT NULL AND NOT EXISTS (SELECT FROM location WHERE location.code = wanted.code)
ORDER BY 1
"""

_HOLD = f"""
WITH reservation AS (
    INSERT INTO reservation (status, reference, expires_at, created_by)
    VALUES ('active', %(reference)s, clock_timestamp() + %(lifetime)s, %(created_by)s) RETURNING *
), {CHANGE.format(reference="%(reference)s", cause_id="(SELECT id FROM reservation)")}, line AS (
    INSERT INTO reservation_line (reservation_id, variant_id, location_id, quantity)
    SELECT reservation.id, change.variant_id, change.location_id, change.delta_reserved FROM reservation, change RETURNING *
)
SELECT {RESERVATION.format(lines="line")}, reservation.id FROM reservation
"""

_LOCK = """
SELECT CASE WHEN status = 'active' AND expires_at <= clock_timestamp() THEN 'expired' ELSE status END FROM reservation WHERE id = %(id)s FOR UPDATE
"""

_EXTEND = f"""
WITH reservation AS (
    UPDATE reservation SET expires_at = clock_timestamp() + %(lifetime)s, updated_at = now() WHERE id = %(id)s RETURNING *
)
SELECT {RESERVATION.format(lines=STORED_LINES)} FROM reservation
"""


async def get_reservation(session: ReadSession, reservation_id: UUID) -> Document:
    """A reservation (`ReservationOut`).

    Raises:
        NotFound: there is none with that id.
    """
    row = await session.fetch_one(_GET, {"id": reservation_id})
    if row is None:
        raise NotFound(f"There is no reservation {reservation_id}.")
    return Document(row[0].encode())


async def reserve(session: WriteSession, wanted: ReservationCreate, *, by: UUID) -> tuple[UUID, Document]:
    """Hold stock for every line, or for none.

    Lines for the same SKU and location are summed. All levels that could be needed are locked in one order, so that two requests can never wait for each
    other in a circle, and then what to take is decided (docs/decisions/0004).

    Args:
        wanted: what to hold, and for how long.
        by: the user who asked.

    Returns:
        The reservation's id, and the reservation (`ReservationOut`).

    Raises:
        NotFound: a SKU or location that does not exist; names all of them.
        InsufficientStock: names every short line, not only the first.
    """
    wants = combine(wanted.lines)
    parameters = {"skus": [want.sku for want in wants], "codes": [want.location for want in wants]}
    levels = [Level(*row) for row in await session.fetch_all(_LOCK_LEVELS, parameters)]
    takes, short = allocate(wants, levels)
    if short:
        if missing := await session.fetch_all(_MISSING, parameters):
            raise NotFound(f"There is {' and '.join(row[0] for row in missing)}.")
        RESERVE_REFUSALS.inc()
        raise InsufficientStock([_described(line.want) | {"available": line.available} for line in short])
    changes = [LevelChange(take.level.variant_id, take.level.location_id, delta_reserved=take.quantity) for take in takes]
    rows = await session.fetch_all(
        _HOLD,
        {
            **change_parameters(changes),
            "reason": "reserved",
            "reference": wanted.reference,
            "created_by": by,
            "lifetime": timedelta(seconds=wanted.expires_in_seconds),
        },
    )
    session.when_committed(HELD.inc)
    return rows[0][1], Document(rows[0][0].encode())


async def extend(session: WriteSession, reservation_id: UUID, *, lifetime: timedelta) -> Document:
    """Let a reservation live for `lifetime` from now.

    Raises:
        NotFound: there is none with that id.
        Conflict: it is not active any more.
    """
    row = await session.fetch_one(_LOCK, {"id": reservation_id})
    if row is None:
        raise NotFound(f"There is no reservation {reservation_id}.")
    if row[0] != "active":
        raise Conflict(f"This reservation is {row[0]}; only an active one can be extended.", reservation_status=row[0])
    rows = await session.fetch_all(_EXTEND, {"id": reservation_id, "lifetime": lifetime})
    return Document(rows[0][0].encode())


def _described(want: Want) -> dict[str, object]:
    place = {} if want.location is None else {"location": want.location}
    return {"sku": want.sku, **place, "requested": want.quantity}
