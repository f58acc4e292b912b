"""Reading products: one round trip each, JSON made by PostgreSQL, and lists that cost the same at ten thousand and at a million products.

A list walks one index: that of `updated_since`, else of the category or the tag (of both, the one that fewer products carry), else of all products.
Whatever else is asked for is checked on the rows it meets until the page is full, and at most on `_CANDIDATES_AN_ITEM` for each item the page may have; so
a page can be short, or even empty, and still have a next one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from uuid import UUID

from app.core.db import ReadSession
from app.core.problems import BadRequest, NotFound
from app.services.documents import MAX_PAGE, Document, Page
from app.services.stock.levels import AVAILABLE

_CANDIDATES_AN_ITEM = 15
_MOST_CANDIDATES = _CANDIDATES_AN_ITEM * MAX_PAGE
_SAMPLE = 100

_PRICES = """(
    SELECT coalesce(json_agg(json_build_object('amount', price.amount_minor, 'currency', price.currency) ORDER BY price.currency), '[]')
    FROM price WHERE price.variant_id = variant.id
)"""

_VARIANT_FIELDS = f"""
    'id', variant.id, 'sku', variant.sku, 'gtin', variant.gtin, 'options', variant.options, 'attributes', variant.attributes, 'prices', {_PRICES}
"""

_PRODUCT = f"""json_build_object(
    'id', product.id, 'slug', product.slug, 'name', product.name, 'description', product.description, 'status', product.status,
    'category_ids', (
        SELECT coalesce(json_agg(filed.category_id ORDER BY filed.category_id), '[]')
        FROM product_category filed WHERE filed.product_id = product.id AND filed.direct
    ),
    'tags', product.tags, 'attributes', product.attributes, 'media', product.media,
    'variants', (
        SELECT coalesce(json_agg(json_build_object({_VARIANT_FIELDS}) ORDER BY variant.position, variant.id), '[]')
        FROM variant WHERE variant.product_id = product.id AND NOT variant.archived
    ),
    'version', product.version, 'created_at', product.created_at, 'updated_at', product.updated_at
)::text"""

_PRODUCT_QUERY = f"SELECT {_PRODUCT}, product.version FROM product WHERE product.id = %(id)s"

VARIANT_DETAIL_QUERY = f"""
SELECT json_build_object({_VARIANT_FIELDS},
    'archived', variant.archived,
    'product', json_build_object('id', product.id, 'slug', product.slug, 'name', product.name, 'status', product.status),
    'availability', (
        SELECT coalesce(json_agg(json_build_object(
            'location', location.code, 'on_hand', level.on_hand, 'reserved', level.reserved, 'available', {AVAILABLE}
        ) ORDER BY location.code), '[]')
        FROM stock_level level JOIN location ON location.id = level.location_id WHERE level.variant_id = variant.id
    )
)::text
FROM variant JOIN product ON product.id = variant.product_id WHERE variant.sku = %(sku)s
"""


_FILTERS = {
    "category_id": ("product_category", "category_id = (SELECT id FROM category WHERE id = %(category_id)s)"),
    "category_slug": ("product_category", "category_id = (SELECT id FROM category WHERE slug = %(category_slug)s)"),
    "tag": ("product_tag", "tag = %(tag)s"),
}
"""The table to look into for a filter, and what to look for."""

_KEY = "array_remove(ARRAY[time::text, id::text], NULL)"
_HAS_MORE = "EXISTS (SELECT FROM found OFFSET %(limit)s)"


@dataclass(frozen=True, slots=True)
class ProductFilter:
    """Which products a list shows; everything given must hold.

    Args:
        status: one status; None for all but archived.
        category: id or slug of a category, whose whole subtree counts.
        tag: one tag.
        updated_since: changed at or after that time; it makes the list sorted by `updated_at`.
    """

    status: str | None = None
    category: str | None = None
    tag: str | None = None
    updated_since: datetime | None = None


async def get_product(session: ReadSession, product_id: UUID) -> Document:
    """A product (`ProductOut`) with its version.

    Raises:
        NotFound: there is none with that id.
    """
    row = await session.fetch_one(_PRODUCT_QUERY, {"id": product_id})
    if row is None:
        raise NotFound(f"There is no product {product_id}.")
    return Document(row[0].encode(), row[1])


async def get_variant(session: ReadSession, sku: str) -> Document:
    """A variant (`VariantDetail`) with its prices and what is available where.

    Raises:
        NotFound: there is none with that SKU.
    """
    row = await session.fetch_one(VARIANT_DETAIL_QUERY, {"sku": sku})
    if row is None:
        raise NotFound(f"There is no variant with the SKU {sku}.")
    return Document(row[0].encode())


async def list_products(session: ReadSession, wanted: ProductFilter, *, limit: int, after: tuple[str, ...] | None) -> Page:
    """A page of products (`ProductOut`), sorted by id, which is by creation, or by `updated_at` and id when `updated_since` is given.

    Args:
        wanted: the filter; the same for every page.
        limit: at most this many.
        after: the sort key to continue after.

    Raises:
        BadRequest: `after` is no key of this sort.
    """
    names = frozenset(name for name in ("status", "tag", "updated_since") if getattr(wanted, name) is not None)
    if wanted.category is not None:
        names |= {"category_id" if _is_uuid(wanted.category) else "category_slug"}
    query, is_filtered = _list_query(names, has_after=after is not None)
    rows = await session.fetch_all(
        query,
        {
            "status": wanted.status,
            "tag": wanted.tag,
            "category_id": wanted.category,
            "category_slug": wanted.category,
            "updated_since": wanted.updated_since,
            **_after_parameters(after, by_time=wanted.updated_since is not None),
            "candidates": _CANDIDATES_AN_ITEM * limit if is_filtered else limit + 1,
            "limit": limit,
        },
    )
    documents, next_after = rows[0]
    return Page(documents.encode(), next_after and tuple(next_after))


@cache
def _list_query(names: frozenset[str], *, has_after: bool) -> tuple[str, bool]:
    """The statement for a set of filters, and whether it checks candidates beyond the index it walks.

    Gives one row: the page as a JSON array, and the key to continue after as an array of texts, null when there is nothing more.
    """
    by_time = "updated_since" in names
    order = "time, id" if by_time else "id"
    filters = dict(_FILTERS[name] for name in sorted(names & _FILTERS.keys()))
    walks = _walks(names, filters, has_after=has_after)
    is_chosen = ["(SELECT is_first FROM sparser)", "NOT (SELECT is_first FROM sparser)"] if len(walks) > 1 else ["true"]
    found, ends = [], []
    for (table, walk), chosen in zip(walks.items(), is_chosen, strict=True):
        # The order is said again at every step: PostgreSQL forgets what no step asks for, and would sort all candidates.
        candidates = f"SELECT * FROM ({walk} LIMIT {_MOST_CANDIDATES}) AS walk ORDER BY {order}"
        # OFFSET 0 keeps each check one look into an index: joined freely, PostgreSQL may read everything that carries the tag.
        checks = [
            f"EXISTS (SELECT FROM {other} WHERE product_id = candidate.id AND {condition} OFFSET 0)"
            for other, condition in filters.items()
            if other != table
        ]
        where = " AND ".join([chosen, *checks])
        found.append(f"(SELECT * FROM ({candidates} LIMIT %(candidates)s) AS candidate WHERE {where} ORDER BY {order} LIMIT %(limit)s + 1)")
        ends.append(f"(SELECT {_KEY} FROM ({candidates}) AS walk WHERE {chosen} AND NOT {_HAS_MORE} OFFSET %(candidates)s - 1 LIMIT 1)")
    query = f"""
WITH {_sparser(*walks.values()) if len(walks) > 1 else ""} found AS MATERIALIZED (
    {" UNION ALL ".join(found)}
), page AS MATERIALIZED (
    SELECT * FROM found ORDER BY {order} LIMIT %(limit)s
)
SELECT
    (SELECT '[' || coalesce(string_agg({_PRODUCT}, ',' ORDER BY {order}), '') || ']' FROM page JOIN product USING (id)),
    ((SELECT {_KEY} FROM page WHERE {_HAS_MORE} ORDER BY {order} OFFSET %(limit)s - 1 LIMIT 1) UNION ALL {" UNION ALL ".join(ends)})
"""
    return query, len(filters) > (0 if by_time else 1)


def _walks(names: frozenset[str], filters: Mapping[str, str], *, has_after: bool) -> dict[str, str]:
    """By table, the ways through an index that a list could take: its rows' ids and times in the order of the list."""
    status = "status = %(status)s" if "status" in names else "status <> 'archived'"
    if "updated_since" in names:
        after = "(updated_at, id) > (%(after_time)s, %(after_id)s)" if has_after else "updated_at >= %(updated_since)s"
        return {"product": f"SELECT id, updated_at AS time FROM product WHERE {status} AND {after} ORDER BY updated_at, id"}
    columns = [(table, "product_id", condition) for table, condition in filters.items()] or [("product", "id", "true")]
    return {
        table: f"SELECT {key} AS id, NULL::timestamptz AS time FROM {table} "
        f"WHERE {status} AND {condition} AND {f'{key} > %(after_id)s' if has_after else 'true'} ORDER BY {key}"
        for table, key, condition in columns
    }


def _sparser(first: str, second: str) -> str:
    """The step that tells which of two walks meets fewer products: the one that ends, or gets further, within the same number of rows."""
    reach = [f"(SELECT id FROM ({walk} OFFSET {_SAMPLE} LIMIT 1) AS walk)" for walk in (first, second)]
    return f"""sparser AS MATERIALIZED (
    SELECT coalesce(first >= second, first IS NULL) AS is_first FROM (SELECT {reach[0]} AS first, {reach[1]} AS second OFFSET 0) AS reach
),"""


def _after_parameters(after: tuple[str, ...] | None, *, by_time: bool) -> dict[str, object]:
    try:
        match after:
            case None:
                return {}
            case (time, product_id) if by_time:
                return {"after_time": datetime.fromisoformat(time), "after_id": UUID(product_id)}
            case (product_id,) if not by_time:
                return {"after_id": UUID(product_id)}
    except ValueError:
        pass
    raise BadRequest("The cursor belongs to another list; send it with the parameters it was given for, or none to start anew.")


def _is_uuid(text: str) -> bool:
    # As ids are answered: a slug may well be 32 letters and digits, and Python takes for a UUID what PostgreSQL does not.
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
