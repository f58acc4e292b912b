"""Products."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Request
from starlette.responses import Response

from app.api.deps import Reading, Writing, requires
from app.api.documents import document_answer, page_answer
from app.api.errors import problems
from app.api.pagination import After, Limit
from app.api.preconditions import IfMatch, RequiredIfMatch
from app.api.routing import resource
from app.core.problems import (
    BadRequest,
    Conflict,
    MissingScope,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    PreconditionRequired,
    UnsupportedMediaType,
    ValidationFailed,
)
from app.schemas.products import ProductCreate, ProductOut, ProductPatch, ProductStatus
from app.schemas.values import PageOut, Tag, Time
from app.services import products
from app.services.products import ProductFilter

router = resource("products")

_CategoryText = Annotated[
    str | None, Query(max_length=120, pattern=r"^[a-z0-9-]+$", description="A category's id or slug. Its whole subtree counts.")
]
_UpdatedSince = Annotated[
    Time | None,
    Query(
        description="Only what changed at or after this time (RFC 3339, with offset); sorts by `updated_at`. A change whose transaction commits late carries "
        "the time at which it began, so a poller can miss it: ask again from a minute before the last one seen."
    ),
]


@router.get(
    "/{product_id}",
    operation_id="get_product",
    summary="One product",
    response_model=ProductOut,
    responses=problems(NotAuthenticated, MissingScope, NotFound, ValidationFailed),
    dependencies=[requires("products:read")],
)
async def get_product(product_id: UUID, session: Reading) -> Response:
    """A product with its variants and prices."""
    return document_answer(await products.get_product(session, product_id))


@router.get(
    "",
    operation_id="list_products",
    summary="Products, page by page",
    response_model=PageOut[ProductOut],
    responses=problems(BadRequest, NotAuthenticated, MissingScope, ValidationFailed),
    dependencies=[requires("products:read")],
)
async def list_products(
    request: Request,
    session: Reading,
    after: After,
    status: Annotated[ProductStatus | None, Query(description="Without it: all but archived.")] = None,
    category: _CategoryText = None,
    tag: Annotated[Tag | None, Query(description="Only what carries this tag.")] = None,
    updated_since: _UpdatedSince = None,
    limit: Limit = 20,
) -> Response:
    """Products by creation, or by their last change with `updated_since`. Filters combine; a page may then be shorter than `limit` and still have a next."""
    wanted = ProductFilter(status, category, tag, updated_since)
    return page_answer(await products.list_products(session, wanted, limit=limit, after=after), request)


@router.post(
    "",
    operation_id="create_product",
    summary="Make a product",
    status_code=201,
    response_model=ProductOut,
    responses=problems(
        BadRequest, NotAuthenticated, MissingScope, NotFound, Conflict, PayloadTooLarge, UnsupportedMediaType, ValidationFailed
    )
    | {201: {"links": {"get_variant": {"operationId": "get_variant", "parameters": {"sku": "$response.body#/variants/0/sku"}}}}},
    dependencies=[requires("products:write")],
)
async def create_product(body: ProductCreate, session: Writing) -> Response:
    """A product with its variants and prices, whole or not at all."""
    product_id, document = await products.create_product(session, body)
    return document_answer(document, status=201, location=f"/api/v1/products/{product_id}")


@router.patch(
    "/{product_id}",
    operation_id="update_product",
    summary="Change a product",
    response_model=ProductOut,
    responses=problems(
        BadRequest,
        NotAuthenticated,
        MissingScope,
        NotFound,
        Conflict,
        PreconditionFailed,
        PayloadTooLarge,
        UnsupportedMediaType,
        ValidationFailed,
        PreconditionRequired,
    ),
    dependencies=[requires("products:write")],
)
async def update_product(product_id: UUID, body: ProductPatch, session: Writing, expected: RequiredIfMatch) -> Response:
    """A JSON merge. `variants` replaces the set, matched by SKU; a variant with stock or live reservations cannot be left out."""
    return document_answer(await products.patch_product(session, product_id, body, expected))


@router.delete(
    "/{product_id}",
    operation_id="archive_product",
    summary="Archive a product",
    status_code=204,
    responses=problems(BadRequest, NotAuthenticated, MissingScope, NotFound, PreconditionFailed, ValidationFailed),
    dependencies=[requires("products:write")],
)
async def archive_product(product_id: UUID, session: Writing, expected: IfMatch) -> Response:
    """It leaves the lists and can no longer be reserved; nothing is lost, and `status` brings it back."""
    await products.archive_product(session, product_id, expected)
    return Response(status_code=204)
