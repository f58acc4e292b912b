"""Reservations."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from starlette.responses import Response

from app.api.deps import Reading, Writing, requires
from app.api.documents import document_answer
from app.api.errors import problems
from app.api.idempotency import OptionalOnce, RequiredOnce
from app.api.routing import resource
from app.core.problems import (
    BadRequest,
    Conflict,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InsufficientStock,
    MissingScope,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
)
from app.core.security import Principal
from app.schemas.reservations import ReservationCreate, ReservationExtend, ReservationOut
from app.services import reservations

router = resource("reservations")

_Writer = Annotated[Principal, requires("reservations:write")]
_CHANGING = (
    BadRequest,
    NotAuthenticated,
    MissingScope,
    NotFound,
    Conflict,
    IdempotencyInProgress,
    PayloadTooLarge,
    ValidationFailed,
    IdempotencyKeyReused,
)


@router.post(
    "",
    operation_id="create_reservation",
    summary="Hold stock for a while",
    status_code=201,
    response_model=ReservationOut,
    responses=problems(
        BadRequest,
        NotAuthenticated,
        MissingScope,
        NotFound,
        InsufficientStock,
        IdempotencyInProgress,
        PayloadTooLarge,
        UnsupportedMediaType,
        ValidationFailed,
        IdempotencyKeyReused,
    ),
)
async def create_reservation(body: ReservationCreate, principal: _Writer, session: Writing, once: RequiredOnce) -> Response:
    """Every line, or none. A line without a location is taken whole at one that has enough; the answer says where."""

    async def effect() -> Response:
        reservation_id, document = await reservations.reserve(session, body, by=principal.user_id)
        return document_answer(document, status=201, location=f"/api/v1/reservations/{reservation_id}")

    return await once(session, principal, effect)


@router.get(
    "/{reservation_id}",
    operation_id="get_reservation",
    summary="One reservation",
    response_model=ReservationOut,
    responses=problems(NotAuthenticated, MissingScope, NotFound, ValidationFailed),
    dependencies=[requires("reservations:read")],
)
async def get_reservation(reservation_id: UUID, session: Reading) -> Response:
    """A reservation. `active` always means that it has not expired."""
    return document_answer(await reservations.get_reservation(session, reservation_id))


@router.post(
    "/{reservation_id}/commit",
    operation_id="commit_reservation",
    summary="The held units are sold",
    response_model=ReservationOut,
    responses=problems(*_CHANGING, InsufficientStock),
)
async def commit_reservation(reservation_id: UUID, principal: _Writer, session: Writing, once: OptionalOnce) -> Response:
    """They leave what is on hand and what is reserved. 409 unless the reservation is active."""

    async def effect() -> Response:
        return document_answer(await reservations.commit(session, reservation_id, by=principal.user_id))

    return await once(session, principal, effect)


@router.post(
    "/{reservation_id}/release",
    operation_id="release_reservation",
    summary="The held units are given back",
    response_model=ReservationOut,
    responses=problems(*_CHANGING),
)
async def release_reservation(reservation_id: UUID, principal: _Writer, session: Writing, once: OptionalOnce) -> Response:
    """They are available again. 409 unless the reservation is active."""

    async def effect() -> Response:
        return document_answer(await reservations.release(session, reservation_id, by=principal.user_id))

    return await once(session, principal, effect)


@router.post(
    "/{reservation_id}/extend",
    operation_id="extend_reservation",
    summary="Hold for longer",
    response_model=ReservationOut,
    responses=problems(*_CHANGING, UnsupportedMediaType),
)
async def extend_reservation(
    reservation_id: UUID, body: ReservationExtend, principal: _Writer, session: Writing, once: OptionalOnce
) -> Response:
    """The lifetime is counted from now. 409 unless the reservation is active."""

    async def effect() -> Response:
        return document_answer(await reservations.extend(session, reservation_id, lifetime=timedelta(seconds=body.expires_in_seconds)))

    return await once(session, principal, effect)
