"""Where stock lies."""

from uuid import UUID

from psycopg.types.json import Jsonb

from app.core.db import ReadSession, WriteSession
from app.core.problems import Conflict, NotFound
from app.schemas.locations import LocationCreate, LocationPatch
from app.services.documents import FIRST_ID, PAGE_BOUND, Document, Page, id_after, read_page
from app.services.merging import merge_object
from app.services.versions import Expected, require_version

_LOCATION = """json_build_object(
    'id', id, 'code', code, 'name', name, 'address', address, 'active', active, 'version', version, 'created_at', created_at, 'updated_at', updated_at
)::text"""

_GET = f"SELECT {_LOCATION}, version FROM location WHERE id = %(id)s"

_LIST = f"""
SELECT {_LOCATION}, location.id::text
FROM (SELECT * FROM location WHERE location.id > %(after)s ORDER BY location.id LIMIT {PAGE_BOUND}) AS location
ORDER BY location.id LIMIT %(row_limit)s
"""


async def get_location(session: ReadSession, location_id: UUID) -> Document:
    """A location (`LocationOut`) with its version.

    Raises:
        NotFound: there is none with that id.
    """
    row = await session.fetch_one(_GET, {"id": location_id})
    if row is None:
        raise NotFound(f"There is no location {location_id}.")
    return Document(row[0].encode(), row[1])


async def list_locations(session: ReadSession, *, limit: int, after: tuple[str, ...] | None) -> Page:
    """A page of locations (`LocationOut`) by id, which is by creation.

    Raises:
        BadRequest: `after` is no key of this sort.
    """
    return await read_page(session, _LIST, {"after": id_after(after) or FIRST_ID}, limit=limit)


async def create_location(session: WriteSession, wanted: LocationCreate) -> tuple[UUID, Document]:
    """Make a location.

    Returns:
        Its id, and the location (`LocationOut`).

    Raises:
        Conflict: the code is taken.
    """
    row = await session.fetch_one(
        """
        INSERT INTO location (code, name, address, active) VALUES (%(code)s, %(name)s, %(address)s, %(active)s)
        ON CONFLICT (code) DO NOTHING RETURNING id
        """,
        {"code": wanted.code, "name": wanted.name, "address": Jsonb(wanted.address), "active": wanted.active},
    )
    if row is None:
        raise Conflict(f"The code `{wanted.code}` is taken by another location.")
    return row[0], await get_location(session, row[0])


async def patch_location(session: WriteSession, location_id: UUID, patch: LocationPatch, expected: Expected) -> Document:
    """Change a location.

    Raises:
        NotFound: there is none with that id.
        PreconditionFailed: it has another version than expected.
        ValidationFailed: the merged address is too large.
    """
    row = await session.fetch_one("SELECT version, address FROM location WHERE id = %(id)s FOR UPDATE", {"id": location_id})
    if row is None:
        raise NotFound(f"There is no location {location_id}.")
    version, address = row
    require_version(version, expected)
    given = patch.model_fields_set
    await session.fetch_all(
        """
        UPDATE location SET name = coalesce(%(name)s, name), address = %(address)s, active = coalesce(%(active)s, active),
            version = version + 1, updated_at = now()
        WHERE id = %(id)s
        """,
        {
            "id": location_id,
            "name": patch.name,
            "address": Jsonb(merge_object(address, patch.address, "address") if "address" in given else address),
            "active": patch.active,
        },
    )
    return await get_location(session, location_id)
