"""Storing variants and their prices."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import orjson
from psycopg.types.json import Json

from app.core.db import WriteSession
from app.schemas.products import VariantIn
from app.services.imports.conflicts import AcceptedProduct
from app.services.imports.summary import Tally

_INSERT_VARIANTS = """
INSERT INTO variant (product_id, sku, gtin, options, attributes, position)
SELECT product_id, sku, gtin, options, attributes, position FROM json_to_recordset(%(variants)s)
    AS wanted (product_id uuid, sku text, gtin text, options json, attributes jsonb, position int)
"""

# `json` has no equality. Its text differs where only spaces or escapes do, so then the options are compared one by one, in their order.
_UPDATE_VARIANTS = """
UPDATE variant SET gtin = CASE WHEN wanted.has_gtin THEN wanted.gtin ELSE variant.gtin END, options = coalesce(wanted.options, variant.options),
    attributes = coalesce(wanted.attributes, variant.attributes), position = wanted.position, archived = false, updated_at = now()
FROM json_to_recordset(%(variants)s)
    AS wanted (sku text, gtin text, has_gtin boolean, options json, attributes jsonb, position int)
WHERE variant.sku = wanted.sku AND (
    variant.sku = ANY(%(repriced)s) OR variant.archived OR variant.position <> wanted.position
    OR (wanted.has_gtin AND variant.gtin IS DISTINCT FROM wanted.gtin) OR variant.attributes <> wanted.attributes
    OR (variant.options::text <> wanted.options::text AND ARRAY(SELECT option::text FROM json_each_text(variant.options) AS option)
        <> ARRAY(SELECT option::text FROM json_each_text(wanted.options) AS option))
)
RETURNING variant.product_id
"""

_SET_PRICES = """
WITH wanted AS (
    SELECT variant.id AS variant_id, price.currency, price.amount
    FROM json_to_recordset(%(prices)s) AS price (sku text, currency text, amount bigint) JOIN variant USING (sku)
), gone AS (
    DELETE FROM price USING variant
    WHERE price.variant_id = variant.id AND variant.sku = ANY(%(known_skus)s)
        AND (price.variant_id, price.currency) NOT IN (SELECT variant_id, currency FROM wanted)
    RETURNING price.variant_id
), written AS (
    INSERT INTO price (variant_id, currency, amount_minor) SELECT variant_id, currency, amount FROM wanted
    ON CONFLICT (variant_id, currency) DO UPDATE SET amount_minor = excluded.amount_minor WHERE price.amount_minor <> excluded.amount_minor
    RETURNING variant_id
)
SELECT sku FROM variant WHERE sku = ANY(%(known_skus)s) AND id IN (SELECT variant_id FROM gone UNION SELECT variant_id FROM written)
"""


async def set_variants(session: WriteSession, products: Sequence[AcceptedProduct], tally: Tally) -> list[UUID]:
    """Add and change variants and their prices.

    Args:
        tally: where they are counted; one with other prices counts as changed.

    Returns:
        The ids of the products with new or changed variants.
    """
    variants = [
        _Placed(product, variant, position)
        for product in products
        for variant, position in zip(product.checked.wanted.variants, product.positions, strict=True)
    ]
    added = [placed for placed in variants if not placed.is_known]
    known = [placed for placed in variants if placed.is_known]
    if added:
        await session.fetch_all(_INSERT_VARIANTS, {"variants": _json([_fields(placed) for placed in added])})
    repriced = await _set_prices(session, variants)
    updated = []
    if known:
        wanted = [_given_fields(placed) for placed in known]
        updated = await session.fetch_all(_UPDATE_VARIANTS, {"variants": _json(wanted), "repriced": repriced})
    tally += Tally(len(added), len(updated), len(known) - len(updated))
    return [placed.product.id for placed in added] + [row[0] for row in updated]


class _Placed(NamedTuple):
    product: AcceptedProduct
    variant: VariantIn
    position: int

    @property
    def is_known(self) -> bool:
        return self.variant.sku in self.product.known_skus


def _fields(placed: _Placed) -> dict[str, object]:
    return {
        "product_id": placed.product.id,
        "sku": placed.variant.sku,
        "gtin": placed.variant.gtin,
        "options": placed.variant.options,
        "attributes": placed.variant.attributes,
        "position": placed.position,
    }


def _given_fields(placed: _Placed) -> dict[str, object]:
    given = placed.variant.model_fields_set
    fields = {name: value for name, value in _fields(placed).items() if name in given}
    return fields | {"position": placed.position, "has_gtin": "gtin" in given}


async def _set_prices(session: WriteSession, variants: Sequence[_Placed]) -> list[str]:
    """Set the prices of variants that name any; gives the SKUs of known ones whose prices changed."""
    priced = [placed for placed in variants if "prices" in placed.variant.model_fields_set]
    if not priced:
        return []
    prices = [
        {"sku": placed.variant.sku, "currency": price.currency, "amount": price.amount}
        for placed in priced
        for price in placed.variant.prices
    ]
    known_skus = [placed.variant.sku for placed in priced if placed.is_known]
    return [row[0] for row in await session.fetch_all(_SET_PRICES, {"prices": _json(prices), "known_skus": known_skus})]


def _json(records: Sequence[object]) -> Json:
    return Json(records, orjson.dumps)
