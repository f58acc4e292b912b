"""Storing products with their variants, prices, categories, tags and stock: a fixed number of statements, however many products there are."""

from collections.abc import Sequence
from uuid import UUID

import orjson
from psycopg.types.json import Json

from app.core.db import WriteSession
from app.core.slugs import slugify
from app.importers import ProductRow, RowError
from app.schemas.products import ProductCreate
from app.services.imports.conflicts import AcceptedProduct, CheckedProduct, accept
from app.services.imports.stock import make_location, set_stock
from app.services.imports.summary import Stored, Tally
from app.services.imports.variants import set_variants

_INSERT_PRODUCTS = """
WITH made AS (
    INSERT INTO product (id, slug, name, description, status, tags, attributes, media)
    SELECT id, slug, name, description, status, tags, attributes, media FROM json_to_recordset(%(products)s)
        AS wanted (id uuid, slug text, name text, description text, status text, tags text[], attributes jsonb, media jsonb)
    RETURNING id, tags, status
)
INSERT INTO product_tag (product_id, tag, status) SELECT id, unnest(tags), status FROM made
"""

# `touched` are the products whose variants, prices or categories changed: they get a new version too, and one in all.
_UPDATE_PRODUCTS = """
WITH merged AS (
    SELECT product.id, wanted.name, coalesce(wanted.description, product.description) AS description,
        coalesce(wanted.status, product.status) AS status, coalesce(wanted.tags, product.tags) AS tags,
        coalesce(wanted.attributes, product.attributes) AS attributes, coalesce(wanted.media, product.media) AS media
    FROM product JOIN json_to_recordset(%(products)s)
        AS wanted (id uuid, name text, description text, status text, tags text[], attributes jsonb, media jsonb) USING (id)
)
UPDATE product SET name = merged.name, description = merged.description, status = merged.status, tags = merged.tags,
    attributes = merged.attributes, media = merged.media, version = version + 1, updated_at = now()
FROM merged
WHERE product.id = merged.id AND (
    product.id = ANY(%(touched)s)
    OR (product.name, product.description, product.status, product.tags, product.attributes, product.media)
        IS DISTINCT FROM (merged.name, merged.description, merged.status, merged.tags, merged.attributes, merged.media)
)
RETURNING product.id
"""

_SET_CATEGORIES = """
WITH RECURSIVE line AS (
    SELECT filed.product_id, category.id, category.parent_id, true AS direct
    FROM json_to_recordset(%(filed)s) AS filed (product_id uuid, category_id uuid) JOIN category ON category.id = filed.category_id
    UNION SELECT line.product_id, parent.id, parent.parent_id, false FROM line JOIN category parent ON parent.id = line.parent_id
), wanted AS (
    SELECT product_id, id AS category_id, bool_or(direct) AS direct FROM line GROUP BY product_id, id
), gone AS (
    DELETE FROM product_category
    WHERE product_id = ANY(%(product_ids)s) AND (product_id, category_id) NOT IN (SELECT product_id, category_id FROM wanted)
    RETURNING product_id
), written AS (
    INSERT INTO product_category (product_id, category_id, direct, status)
    SELECT product.id, wanted.category_id, wanted.direct, product.status FROM wanted JOIN product ON product.id = wanted.product_id
    ON CONFLICT (product_id, category_id) DO UPDATE SET direct = excluded.direct WHERE product_category.direct <> excluded.direct
    RETURNING product_id
)
SELECT product_id FROM gone UNION SELECT product_id FROM written
"""

_SET_TAGS = """
WITH gone AS (
    DELETE FROM product_tag filed USING product
    WHERE filed.product_id = product.id AND product.id = ANY(%(product_ids)s) AND filed.tag <> ALL(product.tags)
)
INSERT INTO product_tag (product_id, tag, status) SELECT id, unnest(tags), status FROM product WHERE id = ANY(%(product_ids)s)
ON CONFLICT DO NOTHING
"""


def check(row: ProductRow, *, location: str) -> tuple[str, CheckedProduct]:
    """The product's slug, and the product checked by the rules of `POST /products`.

    Args:
        location: the code of the location for stock that names none.

    Raises:
        ValidationError: a value that the API would refuse too.
    """
    wanted = ProductCreate.model_validate(row.product)
    slug = wanted.slug or slugify(wanted.name)
    stock = {(sku, code or location): on_hand for (sku, code), on_hand in row.stock.items()}
    return slug, CheckedProduct(row.line, slug, wanted, row.category_slugs, stock, row.derived_skus)


async def store(session: WriteSession, rows: Sequence[CheckedProduct], stored: Stored, *, location: str, import_id: UUID) -> list[RowError]:
    """Store products, each slug once.

    Locks the category tree against changes, then products by id, and last, so that reservations wait the least, levels by variant and
    location; always in this order, so that two imports never wait for each other in a circle.

    Args:
        stored: where what was done is counted.
        location: the code of a location that is made when stock is there and it is not.
        import_id: the `cause_id` of movements.

    Returns:
        What is wrong with the rows that contradict what is stored. Nothing of them is stored.
    """
    products, errors = await accept(session, rows, location=location)
    new = [product for product in products if product.is_new]
    known = [product for product in products if not product.is_new]
    await _insert_products(session, new)
    touched = await set_variants(session, products, stored.variants)
    touched += await _set_categories(session, products)
    updated = await _update_products(session, known, touched)
    if updated:
        await session.fetch_all(_SET_TAGS, {"product_ids": updated})
    on_hand = {level: units for product in products for level, units in product.checked.stock.items()}
    if on_hand:
        stored.default_location_made = any(code == location for _, code in on_hand) and await make_location(session, location)
        stored.stock_levels += await set_stock(session, on_hand, import_id=import_id)
    stored.products += Tally(len(new), len(updated), len(known) - len(updated))
    stored.derived_skus += sum(product.checked.derived_skus for product in products)
    return errors


async def _insert_products(session: WriteSession, products: Sequence[AcceptedProduct]) -> None:
    if products:
        wanted = [{"id": product.id, "slug": product.checked.slug} | _fields(product.checked.wanted) for product in products]
        await session.fetch_all(_INSERT_PRODUCTS, {"products": Json(wanted, orjson.dumps)})


async def _set_categories(session: WriteSession, products: Sequence[AcceptedProduct]) -> list[UUID]:
    """File products, also under the ancestors of their categories; gives those that are filed differently now."""
    filed = [product for product in products if product.category_ids is not None]
    if not filed:
        return []
    wanted = [{"product_id": product.id, "category_id": category_id} for product in filed for category_id in product.category_ids or ()]
    rows = await session.fetch_all(_SET_CATEGORIES, {"filed": Json(wanted, orjson.dumps), "product_ids": [product.id for product in filed]})
    return [row[0] for row in rows]


async def _update_products(session: WriteSession, products: Sequence[AcceptedProduct], touched: Sequence[UUID]) -> list[UUID]:
    if not products:
        return []
    wanted = []
    for product in products:
        fields = _fields(product.checked.wanted)
        given = product.checked.wanted.model_fields_set
        wanted.append({"id": product.id} | {name: value for name, value in fields.items() if name in given})
    rows = await session.fetch_all(_UPDATE_PRODUCTS, {"products": Json(wanted, orjson.dumps), "touched": touched})
    return [row[0] for row in rows]


def _fields(product: ProductCreate) -> dict[str, object]:
    return {
        "name": product.name,
        "description": product.description,
        "status": product.status,
        "tags": product.tags,
        "attributes": product.attributes,
        "media": [{"url": item.url, "alt": item.alt} for item in product.media],
    }
