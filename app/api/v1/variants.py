"""Variants, by the SKU that everybody knows them by."""

from starlette.responses import Response

from app.api.deps import Reading, requires
from app.api.documents import document_answer
from app.api.errors import problems
from app.api.routing import resource
from app.core.problems import MissingScope, NotAuthenticated, NotFound, ValidationFailed
from app.schemas.products import VariantDetail
from app.schemas.values import Sku
from app.services import products

router = resource("variants")


@router.get(
    # A SKU may hold slashes.
    "/{sku:path}",
    operation_id="get_variant",
    summary="What it is, what it costs, how many are left",
    response_model=VariantDetail,
    responses=problems(NotAuthenticated, MissingScope, NotFound, ValidationFailed),
    dependencies=[requires("products:read", "stock:read")],
)
async def get_variant(sku: Sku, session: Reading) -> Response:
    """A variant with its product, its prices and its stock at every location, archived ones too."""
    return document_answer(await products.get_variant(session, sku))
