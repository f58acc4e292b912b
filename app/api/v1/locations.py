"""Locations."""

from uuid import UUID

from fastapi import Request
from starlette.responses import Response

from app.api.deps import Reading, Writing, requires
from app.api.documents import document_answer, page_answer
from app.api.errors import problems
from app.api.pagination import After, Limit
from app.api.preconditions import IfMatch
from app.api.routing import resource
from app.core.problems import (
    BadRequest,
    Conflict,
    MissingScope,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    UnsupportedMediaType,
    ValidationFailed,
)
from app.schemas.locations import LocationCreate, LocationOut, LocationPatch
from app.schemas.values import PageOut
from app.services import locations

router = resource("locations")


@router.get(
    "",
    operation_id="list_locations",
    summary="Locations, page by page",
    response_model=PageOut[LocationOut],
    responses=problems(BadRequest, NotAuthenticated, MissingScope, ValidationFailed),
    dependencies=[requires("locations:read")],
)
async def list_locations(request: Request, session: Reading, after: After, limit: Limit = 20) -> Response:
    """Locations by creation."""
    return page_answer(await locations.list_locations(session, limit=limit, after=after), request)


@router.get(
    "/{location_id}",
    operation_id="get_location",
    summary="One location",
    response_model=LocationOut,
    responses=problems(NotAuthenticated, MissingScope, NotFound, ValidationFailed),
    dependencies=[requires("locations:read")],
)
async def get_location(location_id: UUID, session: Reading) -> Response:
    """A location."""
    return document_answer(await locations.get_location(session, location_id))


@router.post(
    "",
    operation_id="create_location",
    summary="Make a location",
    status_code=201,
    response_model=LocationOut,
    responses=problems(BadRequest, NotAuthenticated, MissingScope, Conflict, PayloadTooLarge, UnsupportedMediaType, ValidationFailed),
    dependencies=[requires("locations:write")],
)
async def create_location(body: LocationCreate, session: Writing) -> Response:
    """A place where stock can lie, known by its code."""
    location_id, document = await locations.create_location(session, body)
    return document_answer(document, status=201, location=f"/api/v1/locations/{location_id}")


@router.patch(
    "/{location_id}",
    operation_id="update_location",
    summary="Change a location",
    response_model=LocationOut,
    responses=problems(
        BadRequest, NotAuthenticated, MissingScope, NotFound, PreconditionFailed, PayloadTooLarge, UnsupportedMediaType, ValidationFailed
    ),
    dependencies=[requires("locations:write")],
)
async def update_location(location_id: UUID, body: LocationPatch, session: Writing, expected: IfMatch) -> Response:
    """A JSON merge. The code cannot change: everything else refers to it."""
    return document_answer(await locations.patch_location(session, location_id, body, expected))
