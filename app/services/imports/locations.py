"""Storing locations."""

from collections.abc import Sequence

import orjson
from psycopg.types.json import Json

from app.core.db import WriteSession
from app.importers import LocationRow, RowError
from app.schemas.locations import LocationCreate
from app.services.imports.summary import Stored

_INSERT = """
INSERT INTO location (code, name, address)
SELECT code, name, address FROM json_to_recordset(%(locations)s) AS wanted (code text, name text, address jsonb)
ON CONFLICT (code) DO NOTHING RETURNING code
"""

_UPDATE = """
UPDATE location SET name = wanted.name, address = wanted.address, version = version + 1, updated_at = now()
FROM json_to_recordset(%(locations)s) AS wanted (code text, name text, address jsonb)
WHERE location.code = wanted.code AND (location.name, location.address) IS DISTINCT FROM (wanted.name, wanted.address)
RETURNING location.code
"""


def check(row: LocationRow) -> tuple[str, LocationCreate]:
    """The location's code, and the location.

    Raises:
        ValidationError: a value that the API would refuse too.
    """
    return row.code, LocationCreate(code=row.code, name=row.name, address=row.address)


async def store(session: WriteSession, rows: Sequence[LocationCreate], stored: Stored) -> list[RowError]:
    """Store locations, each code once; whether one is active stays as it is.

    Returns:
        No errors: nothing that is stored can contradict a location.
    """
    parameters = {"locations": Json([row.model_dump(include={"code", "name", "address"}) for row in rows], orjson.dumps)}
    created = await session.fetch_all(_INSERT, parameters)
    updated = await session.fetch_all(_UPDATE, parameters)
    stored.locations.created += len(created)
    stored.locations.updated += len(updated)
    stored.locations.unchanged += len(rows) - len(created) - len(updated)
    return []
