"""Categories."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Request
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
from app.schemas.categories import CategoryCreate, CategoryOut, CategoryPatch
from app.schemas.values import PageOut
from app.services import categories

router = resource("categories")


@router.get(
    "",
    operation_id="list_categories",
    summary="Categories, page by page",
    response_model=PageOut[CategoryOut],
    responses=problems(BadRequest, NotAuthenticated, MissingScope, ValidationFailed),
    dependencies=[requires("categories:read")],
)
async def list_categories(
    request: Request,
    session: Reading,
    after: After,
    parent_id: Annotated[UUID | None, Query(description="Only the children of this category.")] = None,
    limit: Limit = 20,
) -> Response:
    """Categories by creation, each with the path from its root."""
    return page_answer(await categories.list_categories(session, parent_id=parent_id, limit=limit, after=after), request)


@router.get(
    "/{category_id}",
    operation_id="get_category",
    summary="One category",
    response_model=CategoryOut,
    responses=problems(NotAuthenticated, MissingScope, NotFound, ValidationFailed),
    dependencies=[requires("categories:read")],
)
async def get_category(category_id: UUID, session: Reading) -> Response:
    """A category with the path from its root."""
    return document_answer(await categories.get_category(session, category_id))


@router.post(
    "",
    operation_id="create_category",
    summary="Make a category",
    status_code=201,
    response_model=CategoryOut,
    responses=problems(
        BadRequest, NotAuthenticated, MissingScope, NotFound, Conflict, PayloadTooLarge, UnsupportedMediaType, ValidationFailed
    ),
    dependencies=[requires("categories:write")],
)
async def create_category(body: CategoryCreate, session: Writing) -> Response:
    """A root, or a child of another category."""
    category_id, document = await categories.create_category(session, body)
    return document_answer(document, status=201, location=f"/api/v1/categories/{category_id}")


@router.patch(
    "/{category_id}",
    operation_id="update_category",
    summary="Rename or move a category",
    response_model=CategoryOut,
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
    ),
    dependencies=[requires("categories:write")],
)
async def update_category(category_id: UUID, body: CategoryPatch, session: Writing, expected: IfMatch) -> Response:
    """A JSON merge. With another `parent_id` the whole subtree moves, and its products are found under the new ancestors."""
    return document_answer(await categories.patch_category(session, category_id, body, expected))


@router.delete(
    "/{category_id}",
    operation_id="delete_category",
    summary="Delete a category",
    status_code=204,
    responses=problems(BadRequest, NotAuthenticated, MissingScope, NotFound, Conflict, PreconditionFailed, ValidationFailed),
    dependencies=[requires("categories:write")],
)
async def delete_category(category_id: UUID, session: Writing, expected: IfMatch) -> Response:
    """Only one without children. Its products stay."""
    await categories.delete_category(session, category_id, expected)
    return Response(status_code=204)
