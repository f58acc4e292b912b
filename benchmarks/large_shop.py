"""A shop of any size for measuring lists in: every row is made by PostgreSQL from its number alone, and loaded by COPY.

What a filter finds either grows with the shop, as in life (statuses, common tags, roots of the tree, locations), or is the same in every shop (the rare
tag, a leaf of the tree, the SKU of product 0). Every product has two variants, so that every page holds as much. Products and movements are in the order
of their ids; all else is scattered. Levels and ledger are for reading only: they do not agree.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
from psycopg import sql

LOCATIONS = 50
FEWEST_PRODUCTS = 10_000
MOVEMENTS_A_PRODUCT = 5
_ROOTS, _MIDS, _TAGS, _USERS = 20, 1200, 1000, 50
FIRST_LEAF = _ROOTS + _MIDS
"""The number of the first category that products are filed in."""
_RARE, _BEST_SELLER_MOVEMENTS = 60, 100
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)

# Ids are UUIDv7 of the millisecond n. A draw is as good as random between 0 and 1, and the same in every run; its powers make the skew.
_FUNCTIONS = f"""
CREATE FUNCTION pg_temp.id(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN
    (lpad(to_hex({round(_FIRST.timestamp() * 1000)} + n), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid;
CREATE FUNCTION pg_temp.draw(n bigint, salt int) RETURNS float8 LANGUAGE sql IMMUTABLE RETURN
    (hashint8extended(n, salt) & 1048575) / 1048576.0::float8;
CREATE FUNCTION pg_temp.status(n bigint) RETURNS text LANGUAGE sql IMMUTABLE RETURN
    CASE WHEN n % 10 = 3 THEN 'draft' WHEN n % 20 = 1 THEN 'archived' ELSE 'active' END;
CREATE FUNCTION pg_temp.tags(n bigint) RETURNS text[] LANGUAGE sql IMMUTABLE RETURN ARRAY[
    'tag-' || floor({_TAGS} * pg_temp.draw(n, 1) ^ 3)::int, 'brand-' || floor({_TAGS} * pg_temp.draw(n, 2) ^ 3)::int,
    CASE WHEN n % ({{products}} / {_RARE}) = 0 THEN 'rare' ELSE 'season-' || n % 4 END
];
CREATE FUNCTION pg_temp.place(v bigint) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN floor({LOCATIONS} * pg_temp.draw(v, 3) ^ 3)::bigint;
CREATE FUNCTION pg_temp.root(n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN floor({_ROOTS} * pg_temp.draw(n, 4) ^ 2)::bigint;
CREATE FUNCTION pg_temp.leaf(n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN
    pg_temp.root(n) + {_ROOTS} * floor(pg_temp.draw(n, 5) * ({{products}} / 1000))::bigint;
CREATE FUNCTION pg_temp.mid(leaf bigint) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN leaf % {_MIDS};
"""

_NUMBERS = "generate_series(0::bigint, {products} - 1) AS n"
_VARIANTS = f"{_NUMBERS}, generate_series(2 * n, 2 * n + 1) AS v"

# Filed in a leaf, and for lists in the mid and the root above it. Numbers: roots first, then mids, then leaves; mid m is below root m % 20.
_FILED = f"""
SELECT pg_temp.id(n), pg_temp.id(category), direct, pg_temp.status(n)
FROM {_NUMBERS}, LATERAL (SELECT pg_temp.leaf(n) AS leaf OFFSET 0) AS filed,
    LATERAL (VALUES ({FIRST_LEAF} + leaf, true), ({_ROOTS} + pg_temp.mid(leaf), false), (leaf % {_ROOTS}, false)) AS line (category, direct)
"""

# Every so often the best seller moves, at the largest and the smallest location by turns.
_MOVEMENTS = f"""
SELECT pg_temp.id(m), pg_temp.id(v), pg_temp.id(place), 10::bigint, 0::bigint, 'received', pg_temp.id(m), timestamptz '{_FIRST}' + m * interval '1 ms'
FROM generate_series(0::bigint, {MOVEMENTS_A_PRODUCT} * {{products}} - 1) AS m, LATERAL (SELECT m * 7919 % {{products}} AS n OFFSET 0) AS moved,
    LATERAL (SELECT m / ({MOVEMENTS_A_PRODUCT} * {{products}} / {_BEST_SELLER_MOVEMENTS}) AS turn,
        m % ({MOVEMENTS_A_PRODUCT} * {{products}} / {_BEST_SELLER_MOVEMENTS}) = 0 AS is_best_seller OFFSET 0) AS best,
    LATERAL (SELECT CASE WHEN is_best_seller THEN 0 ELSE 2 * n + m / {{products}} % 2 END AS v OFFSET 0) AS variant,
    LATERAL (SELECT CASE WHEN is_best_seller THEN turn % 2 * ({LOCATIONS} - 1) ELSE pg_temp.place(v) END AS place OFFSET 0) AS there
"""

_TABLES = {
    "app_user (id, email, display_name, password_hash, roles)": f"""
        SELECT pg_temp.id(n), 'user-' || n || '@example.com', 'User ' || n, '-', ARRAY['viewer'] FROM generate_series(0, {_USERS} - 1) AS n
    """,
    "location (id, code, name, address)": f"""
        SELECT pg_temp.id(n), 'L' || n, 'Warehouse ' || n, jsonb_build_object('city', 'Berlin') FROM generate_series(0, {LOCATIONS} - 1) AS n
    """,
    "category (id, name, slug, parent_id)": f"""
        SELECT pg_temp.id(n), 'Root ' || n, 'root-' || n, NULL::uuid FROM generate_series(0, {_ROOTS} - 1) AS n
        UNION ALL SELECT pg_temp.id({_ROOTS} + n), 'Mid ' || n, 'mid-' || n, pg_temp.id(n % {_ROOTS}) FROM generate_series(0, {_MIDS} - 1) AS n
        UNION ALL SELECT pg_temp.id({FIRST_LEAF} + n), 'Leaf ' || n, 'leaf-' || n, pg_temp.id({_ROOTS} + pg_temp.mid(n))
        FROM generate_series(0::bigint, {{products}} / 50 - 1) AS n
    """,
    "product (id, slug, name, description, status, tags, attributes, media, created_at, updated_at)": f"""
        SELECT pg_temp.id(n), 'product-' || n, 'Product ' || n, repeat('A shirt that is worn often and washed well. ', 5), pg_temp.status(n),
            pg_temp.tags(n), jsonb_build_object('material', 'linen', 'season', n % 4),
            jsonb_build_array(jsonb_build_object('url', 'https://media.example.com/' || n || '.jpg', 'alt', 'Front')),
            timestamptz '{_FIRST}' + n * interval '1 ms', timestamptz '{_FIRST}' + n * 7919 % {{products}} * interval '1 s'
        FROM {_NUMBERS}
    """,
    "product_tag (product_id, tag, status)": f"SELECT pg_temp.id(n), unnest(pg_temp.tags(n)), pg_temp.status(n) FROM {_NUMBERS}",
    "product_category (product_id, category_id, direct, status)": _FILED,
    "variant (id, product_id, sku, options, position)": f"""
        SELECT pg_temp.id(v), pg_temp.id(n), 'SKU-' || v, json_build_object('Colour', 'Blue', 'Size', (ARRAY['S', 'L'])[(v % 2)::int + 1]), (v % 2)::int
        FROM {_VARIANTS}
    """,
    "price (variant_id, currency, amount_minor)": f"""
        SELECT pg_temp.id(v), currency, (n % 10000)::bigint FROM {_VARIANTS}, unnest(CASE WHEN v % 2 = 0 THEN '{{{{EUR,USD}}}}' ELSE '{{{{EUR}}}}'::text[] END)
            AS currency
    """,
    "stock_level (variant_id, location_id, on_hand, reserved)": f"""
        SELECT pg_temp.id(v), pg_temp.id(place), v % 100, v % 3
        FROM {_VARIANTS}, LATERAL (SELECT pg_temp.place(v) AS home OFFSET 0) AS stored,
            unnest(CASE WHEN v % 2 = 0 THEN ARRAY[home, (home + 1) % {LOCATIONS}] ELSE ARRAY[home] END) AS place
    """,
    "stock_movement (id, variant_id, location_id, delta_on_hand, delta_reserved, reason, cause_id, created_at)": _MOVEMENTS,
    "reservation (id, status, expires_at)": f"""
        SELECT pg_temp.id(n), CASE WHEN n % 5 = 0 THEN 'active' ELSE 'committed' END, timestamptz '{_FIRST}' FROM {_NUMBERS} WHERE n % 20 = 0
    """,
    "reservation_line (reservation_id, variant_id, location_id, quantity)": f"""
        SELECT pg_temp.id(n), pg_temp.id(2 * n), pg_temp.id(pg_temp.place(2 * n)), 1::bigint FROM {_NUMBERS} WHERE n % 20 = 0
    """,
}


def number_id(number: int) -> UUID:
    """The id of the row with that number, in every table."""
    milliseconds = round(_FIRST.timestamp() * 1000) + number
    return UUID(f"{milliseconds:012x}70008{number:015x}")


def changed_at(products: int, share: float) -> datetime:
    """The time by which that share of so many products was last changed."""
    return _FIRST + timedelta(seconds=int(products * share))


def fill(url: str, *, products: int) -> None:
    """Load a shop into an empty, migrated database.

    Args:
        url: as a superuser, who may load without every foreign key being checked.
        products: how many; at least `FEWEST_PRODUCTS`, and a multiple of it.
    """
    with psycopg.connect(url, autocommit=True) as source, psycopg.connect(url) as target:
        source.execute(_FUNCTIONS.format(products=products).encode())
        target.execute("SET session_replication_role = replica")
        target.execute("SET maintenance_work_mem = '256MB'")
        for table, rows in _TABLES.items():
            with _without_indexes(target, table.partition(" ")[0]):
                _copy(source, target, table, rows.format(products=products))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _copy(source: psycopg.Connection, target: psycopg.Connection, table: str, rows: str) -> None:
    with (
        source.cursor().copy(f"COPY ({rows}) TO STDOUT (FORMAT binary)".encode()) as made,
        target.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)".encode()) as loaded,
    ):
        for part in made:
            loaded.write(part)


@contextmanager
def _without_indexes(connection: psycopg.Connection, table: str) -> Iterator[None]:
    """Takes the indexes that no constraint needs away and makes them again at the end: built at once, they take a fraction of the time."""
    indexes = connection.execute(
        """
        SELECT indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename = %s AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname)
        """,
        [table],
    ).fetchall()
    for name, _ in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    yield
    for _, definition in indexes:
        connection.execute(definition.encode())
