"""Reading products: one round trip each, JSON made by PostgreSQL, and lists that cost the same at ten thousand and at a million products.

A list walks one index: that of `updated_since`, else of the category, else of the tag, else of all products. Whatever else is asked for is checked on
the rows it meets, of which one page looks at no more than `_MOST_CANDIDATES`; so a page can be short, or even empty, and still have a next one.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from uuid import UUID

from app.core.db import ReadSession
from app.core.problems import BadRequest, NotFound
from app.services.documents import Document, Page
from app.services.stock.levels import AVAILABLE

_MOST_CANDIDATES = 1000

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
            "candidates": _MOST_CANDIDATES if is_filtered else limit + 1,
            "limit": limit,
        },
    )
    documents, *next_after = rows[0]
    return Page(documents.encode(), tuple(part for part in next_after if part is not None) or None)


@cache
def _list_query(names: frozenset[str], *, has_after: bool) -> tuple[str, bool]:
    """The statement for a set of filters, and whether it checks candidates beyond the index it walks.

    Gives one row: the page as a JSON array, and the key to continue after (time and id, or nulls when there is nothing more).
    """
    by_time = "updated_since" in names
    by_category = next((name for name in names if name.startswith("category_")), None)
    status = "{0}.status = %(status)s" if "status" in names else "{0}.status <> 'archived'"
    category = (
        "(SELECT id FROM category WHERE id = %(category_id)s)"
        if by_category == "category_id"
        else "(SELECT id FROM category WHERE slug = %(category_slug)s)"
    )
    # OFFSET 0 keeps each check one look into an index: joined freely, PostgreSQL may read everything that carries the tag.
    checks = {
        "category": f"EXISTS (SELECT FROM product_category f WHERE f.product_id = candidate.id AND f.category_id = {category} OFFSET 0)",
        "tag": "EXISTS (SELECT FROM product_tag f WHERE f.product_id = candidate.id AND f.tag = %(tag)s OFFSET 0)",
    }
    wanted = [name for name, present in (("category", by_category), ("tag", "tag" in names)) if present]
    if by_time:
        source, key, time = "product", "product.id", "product.updated_at"
        where = [status.format("product")]
    elif wanted:
        source = f"product_{wanted[0]}"
        key, time = f"{source}.product_id", "NULL::timestamptz"
        where = [status.format(source), f"{source}.category_id = {category}" if wanted.pop(0) == "category" else f"{source}.tag = %(tag)s"]
    else:
        source, key, time = "product", "product.id", "NULL::timestamptz"
        where = [status.format("product")]
    if has_after:
        where.append("(product.updated_at, product.id) > (%(after_time)s, %(after_id)s)" if by_time else f"{key} > %(after_id)s")
    elif by_time:
        where.append("product.updated_at >= %(updated_since)s")
    order = f"{time}, {key}" if by_time else key
    query = f"""
WITH candidate AS MATERIALIZED (
    SELECT id, time, row_number() OVER (ORDER BY {"time, " if by_time else ""}id) AS number
    FROM (
        SELECT * FROM (SELECT {key} AS id, {time} AS time FROM {source} WHERE {" AND ".join(where)} ORDER BY {order} LIMIT {_MOST_CANDIDATES}) AS walk
        LIMIT %(candidates)s
    ) AS walked
), chosen AS MATERIALIZED (
    SELECT id, number FROM candidate WHERE {" AND ".join([checks[name] for name in wanted] or ["true"])} ORDER BY number LIMIT %(limit)s
), page AS (
    SELECT '[' || coalesce(string_agg({_PRODUCT}, ',' ORDER BY chosen.number), '') || ']' AS documents,
        CASE WHEN count(*) = %(limit)s THEN max(chosen.number) ELSE (SELECT count(*) FROM candidate) END AS last_number,
        (SELECT count(*) FROM candidate) AS candidates
    FROM chosen JOIN product ON product.id = chosen.id
)
SELECT page.documents, last.time::text, last.id::text
FROM page LEFT JOIN candidate last ON last.number = page.last_number AND (page.last_number < page.candidates OR page.candidates = %(candidates)s)
"""
    return query, bool(wanted)


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
