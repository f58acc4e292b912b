"""Stock levels, adjustments and the ledger."""

from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from app.api.deps import Reading, Writing, requires
from app.api.documents import document_answer, page_answer
from app.api.errors import problems
from app.api.idempotency import RequiredOnce
from app.api.pagination import After, Limit
from app.api.routing import resource
from app.core.problems import (
    BadRequest,
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
from app.schemas.stock import AdjustmentCreate, AdjustmentOut, MovementOut, StockLevelOut
from app.schemas.values import LocationCode, PageOut, Sku
from app.services import stock

router = resource("stock")

_ITEM = {"sku": "$response.body#/items/0/sku", "location": "$response.body#/items/0/location"}
_LINKS = {
    "create_adjustment": {
        "operationId": "create_adjustment",
        "requestBody": {"lines": [_ITEM | {"delta": 24}], "reason": "received"},
        "description": "What is on hand can be changed.",
    },
    "create_reservation": {
        "operationId": "create_reservation",
        "requestBody": {"lines": [_ITEM | {"quantity": 2}]},
        "description": "What is available can be reserved.",
    },
}
_Location = Annotated[LocationCode | None, Query(description="Only at the location with this code.")]


@router.get(
    "",
    operation_id="list_stock",
    summary="How many are where",
    response_model=PageOut[StockLevelOut],
    responses=problems(BadRequest, NotAuthenticated, MissingScope, ValidationFailed) | {200: {"links": _LINKS}},
    dependencies=[requires("stock:read")],
)
async def list_stock(
    request: Request,
    session: Reading,
    after: After,
    sku: Annotated[list[Sku], Query(max_length=100, description="Only these SKUs; may repeat.")] = [],  # noqa: B006 - FastAPI copies defaults
    location: _Location = None,
    limit: Limit = 20,
) -> Response:
    """Stock levels. `available` below zero is a shortfall: less was counted than is reserved."""
    return page_answer(await stock.list_levels(session, skus=sku, location=location, limit=limit, after=after), request)


@router.get(
    "/movements",
    operation_id="list_movements",
    summary="The ledger",
    response_model=PageOut[MovementOut],
    responses=problems(BadRequest, NotAuthenticated, MissingScope, ValidationFailed),
    dependencies=[requires("stock:read")],
)
async def list_movements(
    request: Request,
    session: Reading,
    after: After,
    sku: Annotated[Sku | None, Query(description="Only of this SKU.")] = None,
    location: _Location = None,
    limit: Limit = 20,
) -> Response:
    """Every movement of stock, oldest first.

    A movement stands where it was written, and is seen only when its transaction commits: whoever follows the ledger by cursor can miss one that commits late.
    To keep a copy, start each time from a cursor of a minute before, and tell by `id` what is new.
    """
    return page_answer(await stock.list_movements(session, sku=sku, location=location, limit=limit, after=after), request)


@router.post(
    "/adjustments",
    operation_id="create_adjustment",
    summary="Change what is on hand",
    status_code=201,
    response_model=AdjustmentOut,
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
async def create_adjustment(
    body: AdjustmentCreate, principal: Annotated[Principal, requires("stock:write")], session: Writing, once: RequiredOnce
) -> Response:
    """Every line, or none. 409 when what is on hand would fall below zero; below what is reserved is accepted, for a count is a fact."""

    async def effect() -> Response:
        return document_answer(await stock.adjust(session, body, by=principal.user_id), status=201)

    return await once(session, principal, effect)
