"""Changing products."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Json, Jsonb

from app.core.db import WriteSession
from app.core.problems import Conflict, NotFound, ValidationFailed
from app.core.slugs import slugify
from app.schemas.products import MAX_PRODUCT_BYTES, ProductCreate, ProductPatch, VariantIn
from app.services.categories import TREE_LOCK
from app.services.documents import Document
from app.services.merging import merge_object
from app.services.products.reading import get_product
from app.services.versions import Expected, require_version

_INSERT = """
INSERT INTO product (slug, name, description, status, tags, attributes, media)
VALUES (%(slug)s, %(name)s, %(description)s, %(status)s, %(tags)s, %(attributes)s, %(media)s)
ON CONFLICT (slug) DO NOTHING RETURNING id
"""

_LOCK = "SELECT version, attributes FROM product WHERE id = %(id)s FOR UPDATE"

_UPDATE = """
UPDATE product SET slug = coalesce(%(slug)s, slug), name = coalesce(%(name)s, name), description = coalesce(%(description)s, description),
    status = coalesce(%(status)s, status), tags = coalesce(%(tags)s::text[], tags), attributes = coalesce(%(attributes)s, attributes),
    media = coalesce(%(media)s, media), version = version + 1, updated_at = now()
WHERE id = %(id)s AND (%(slug)s::text IS NULL OR NOT EXISTS (SELECT FROM product other WHERE other.slug = %(slug)s AND other.id <> %(id)s))
RETURNING id
"""

# Sorted, so that two who add the same SKUs wait for each other in one order.
_INSERT_VARIANTS = """
INSERT INTO variant (product_id, sku, gtin, options, attributes, position)
SELECT %(product_id)s, sku, gtin, options, attributes, position
FROM json_to_recordset(%(variants)s) AS wanted (sku text, gtin text, options json, attributes jsonb, position int)
ORDER BY sku ON CONFLICT (sku) DO NOTHING RETURNING sku
"""

_KNOWN_VARIANTS = "SELECT sku, gtin, options, attributes, archived FROM variant WHERE product_id = %(product_id)s"

_UPDATE_VARIANTS = """
UPDATE variant SET gtin = wanted.gtin, options = wanted.options, attributes = wanted.attributes, position = wanted.position,
    archived = false, updated_at = now()
FROM json_to_recordset(%(variants)s) AS wanted (sku text, gtin text, options json, attributes jsonb, position int)
WHERE variant.sku = wanted.sku AND variant.product_id = %(product_id)s
"""

# In the order in which all levels are locked; nothing can be reserved of these variants until they are archived.
_LOCK_LEVELS = """
SELECT variant.sku, level.on_hand, level.reserved FROM stock_level level JOIN variant ON variant.id = level.variant_id
WHERE variant.sku = ANY(%(skus)s) ORDER BY level.variant_id, level.location_id FOR UPDATE OF level
"""

_ARCHIVE_VARIANTS = "UPDATE variant SET archived = true, updated_at = now() WHERE sku = ANY(%(skus)s)"

_SET_PRICES = """
WITH wanted AS (
    SELECT variant.id AS variant_id, price.currency, price.amount
    FROM json_to_recordset(%(prices)s) AS price (sku text, currency text, amount bigint) JOIN variant USING (sku)
), gone AS (
    DELETE FROM price USING variant
    WHERE price.variant_id = variant.id AND variant.sku = ANY(%(skus)s) AND (price.variant_id, price.currency) NOT IN (SELECT variant_id, currency FROM wanted)
)
INSERT INTO price (variant_id, currency, amount_minor) SELECT variant_id, currency, amount FROM wanted
ON CONFLICT (variant_id, currency) DO UPDATE SET amount_minor = excluded.amount_minor
"""

_SET_TAGS = """
WITH gone AS (DELETE FROM product_tag WHERE product_id = %(product_id)s AND tag <> ALL(%(tags)s))
INSERT INTO product_tag (product_id, tag, status) SELECT id, unnest(%(tags)s::text[]), status FROM product WHERE id = %(product_id)s
ON CONFLICT DO NOTHING
"""

# Shared among those who file products, and exclusive for whoever moves categories: ancestors must not change while they are copied. It is taken before
# the product is locked, because a move locks products after it.
_SHARE_TREE = "SELECT pg_advisory_xact_lock_shared(%(tree_lock)s)"

_FIND_CATEGORIES = "SELECT id FROM category WHERE id = ANY(%(category_ids)s)"

_SET_CATEGORIES = """
WITH RECURSIVE line AS (
    SELECT id, parent_id, true AS direct FROM category WHERE id = ANY(%(category_ids)s)
    UNION SELECT parent.id, parent.parent_id, false FROM line JOIN category parent ON parent.id = line.parent_id
), wanted AS (
    SELECT id, bool_or(direct) AS direct FROM line GROUP BY id
), gone AS (
    DELETE FROM product_category WHERE product_id = %(product_id)s AND category_id NOT IN (SELECT id FROM wanted)
)
INSERT INTO product_category (product_id, category_id, direct, status)
SELECT product.id, wanted.id, wanted.direct, product.status FROM wanted, product WHERE product.id = %(product_id)s
ON CONFLICT (product_id, category_id) DO UPDATE SET direct = excluded.direct
"""


async def create_product(session: WriteSession, wanted: ProductCreate) -> tuple[UUID, Document]:
    """Make a product with its variants and prices.

    Returns:
        Its id, and the product (`ProductOut`).

    Raises:
        Conflict: the slug or a SKU is taken; names all SKUs that are.
        NotFound: a category does not exist; names all that do not.
        ValidationFailed: the product as a whole would be too large.
    """
    slug = wanted.slug or slugify(wanted.name)
    row = await session.fetch_one(
        _INSERT,
        {
            "slug": slug,
            "name": wanted.name,
            "description": wanted.description,
            "status": wanted.status,
            "tags": wanted.tags,
            "attributes": Jsonb(wanted.attributes),
            "media": Jsonb([item.model_dump() for item in wanted.media]),
        },
    )
    if row is None:
        raise _slug_taken(slug)
    product_id: UUID = row[0]
    await _add_variants(session, product_id, [_fields(variant, position) for position, variant in enumerate(wanted.variants)])
    await _set_prices(session, wanted.variants)
    if wanted.tags:
        await session.fetch_all(_SET_TAGS, {"product_id": product_id, "tags": wanted.tags})
    if wanted.category_ids:
        await _share_tree(session)
        await _file_under(session, product_id, wanted.category_ids)
    return product_id, await _answer(session, product_id)


async def patch_product(session: WriteSession, product_id: UUID, patch: ProductPatch, expected: Expected) -> Document:
    """Change what the patch names, and nothing else.

    Raises:
        NotFound: there is no such product, or a category does not exist.
        PreconditionFailed: the product has another version than expected.
        Conflict: the slug or a SKU is taken, or a variant that is left out still has stock or live reservations.
        ValidationFailed: the merged attributes, or the product as a whole, would be too large.
    """
    given = patch.model_fields_set
    if given & {"category_ids", "status"}:
        await _share_tree(session)
    row = await session.fetch_one(_LOCK, {"id": product_id})
    if row is None:
        raise NotFound(f"There is no product {product_id}.")
    version, attributes = row
    require_version(version, expected)
    updated = await session.fetch_one(
        _UPDATE,
        {
            "id": product_id,
            "slug": patch.slug if "slug" in given else None,
            "name": patch.name if "name" in given else None,
            "description": patch.description if "description" in given else None,
            "status": patch.status if "status" in given else None,
            "tags": patch.tags if "tags" in given else None,
            "attributes": Jsonb(merge_object(attributes, patch.attributes, "attributes")) if "attributes" in given else None,
            "media": Jsonb([item.model_dump() for item in patch.media]) if "media" in given else None,
        },
    )
    if updated is None:
        raise _slug_taken(patch.slug)
    if "variants" in given:
        await _replace_variants(session, product_id, patch.variants)
    if "tags" in given:
        await session.fetch_all(_SET_TAGS, {"product_id": product_id, "tags": patch.tags})
    if "category_ids" in given:
        await _file_under(session, product_id, patch.category_ids)
    return await _answer(session, product_id)


async def archive_product(session: WriteSession, product_id: UUID, expected: Expected) -> None:
    """Take a product out of the lists; it keeps its id, its stock and its history, and a PATCH of `status` brings it back.

    Raises:
        NotFound: there is no such product.
        PreconditionFailed: it has another version than expected.
    """
    await _share_tree(session)
    row = await session.fetch_one(_LOCK, {"id": product_id})
    if row is None:
        raise NotFound(f"There is no product {product_id}.")
    require_version(row[0], expected)
    await session.fetch_all(
        "UPDATE product SET status = 'archived', version = version + 1, updated_at = now() WHERE id = %(id)s AND status <> 'archived'",
        {"id": product_id},
    )


async def _replace_variants(session: WriteSession, product_id: UUID, wanted: Sequence[VariantIn]) -> None:
    known = {row[0]: row for row in await session.fetch_all(_KNOWN_VARIANTS, {"product_id": product_id})}
    if missing := [sku for sku, *_, archived in known.values() if not archived and sku not in {variant.sku for variant in wanted}]:
        await _archive_variants(session, missing)
    changed, added = [], []
    for position, variant in enumerate(wanted):
        if variant.sku in known:
            _, gtin, options, attributes, _ = known[variant.sku]
            changed.append({"gtin": gtin, "options": options, "attributes": attributes} | _fields(variant, position, only_given=True))
        else:
            added.append(_fields(variant, position))
    if changed:
        await session.fetch_all(_UPDATE_VARIANTS, {"product_id": product_id, "variants": Json(changed)})
    await _add_variants(session, product_id, added)
    await _set_prices(session, [variant for variant in wanted if "prices" in variant.model_fields_set])


async def _archive_variants(session: WriteSession, skus: Sequence[str]) -> None:
    levels = await session.fetch_all(_LOCK_LEVELS, {"skus": skus})
    if kept := sorted({sku for sku, on_hand, reserved in levels if on_hand or reserved}):
        raise Conflict(f"These variants still have stock or live reservations and cannot be left out: {', '.join(kept)}.", skus=kept)
    await session.fetch_all(_ARCHIVE_VARIANTS, {"skus": skus})


async def _add_variants(session: WriteSession, product_id: UUID, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    inserted = await session.fetch_all(_INSERT_VARIANTS, {"product_id": product_id, "variants": Json(rows)})
    if taken := sorted({row["sku"] for row in rows} - {row[0] for row in inserted}):
        raise Conflict(f"These SKUs belong to other products: {', '.join(taken)}.", skus=taken)


async def _set_prices(session: WriteSession, variants: Sequence[VariantIn]) -> None:
    prices = [{"sku": variant.sku, **price.model_dump()} for variant in variants for price in variant.prices]
    if variants:
        await session.fetch_all(_SET_PRICES, {"prices": Json(prices), "skus": [variant.sku for variant in variants]})


async def _share_tree(session: WriteSession) -> None:
    await session.fetch_all(_SHARE_TREE, {"tree_lock": TREE_LOCK})


async def _file_under(session: WriteSession, product_id: UUID, category_ids: Sequence[UUID]) -> None:
    found = {row[0] for row in await session.fetch_all(_FIND_CATEGORIES, {"category_ids": list(category_ids)})}
    if missing := [str(wanted) for wanted in category_ids if wanted not in found]:
        raise NotFound(f"There is no category {', '.join(missing)}.")
    await session.fetch_all(_SET_CATEGORIES, {"product_id": product_id, "category_ids": list(category_ids)})


def _fields(variant: VariantIn, position: int, *, only_given: bool = False) -> dict[str, Any]:
    return {**variant.model_dump(include={"sku", "gtin", "options", "attributes"}, exclude_unset=only_given), "position": position}


async def _answer(session: WriteSession, product_id: UUID) -> Document:
    """The product, measured as it is answered: only so do many changes together, and what JSON makes of texts and numbers, all count."""
    document = await get_product(session, product_id)
    if len(document.body) > MAX_PRODUCT_BYTES:
        detail = f"A product should be at most {MAX_PRODUCT_BYTES} bytes long as it is answered; this one would have {len(document.body)}."
        raise ValidationFailed.of_body("#", detail)
    return document


def _slug_taken(slug: str) -> Conflict:
    return Conflict(f"The slug `{slug}` is taken by another product.")
