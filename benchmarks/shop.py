"""A shop for measuring in, made by SQL: products of three variants with prices, stock, and reservations to commit."""

from typing import LiteralString
from uuid import UUID

import psycopg

UNITS_EACH = 1_000_000_000

_PRODUCTS: LiteralString = """
INSERT INTO product (slug, name, description, status, tags, attributes, media)
SELECT 'product-' || n, 'Product ' || n, repeat('A shirt that is worn often and washed well. ', 5), CASE WHEN n %% 20 = 0 THEN 'draft' ELSE 'active' END,
    ARRAY['tag-' || n %% 50, 'all'], jsonb_build_object('material', 'linen', 'season', n %% 4),
    jsonb_build_array(jsonb_build_object('url', 'https://media.example.com/' || n || '.jpg', 'alt', 'Front'))
FROM generate_series(1, %(products)s) AS n
"""

_REST: tuple[LiteralString, ...] = (
    """
    INSERT INTO variant (product_id, sku, gtin, options, attributes, position)
    SELECT product.id, 'SKU-' || substr(product.slug, 9) || '-' || size, NULL, json_build_object('Colour', 'Blue', 'Size', size), '{}', position
    FROM product, unnest(ARRAY['S', 'M', 'L']) WITH ORDINALITY AS sizes (size, position)
    """,
    "INSERT INTO price (variant_id, currency, amount_minor) SELECT id, 'EUR', 4900 FROM variant",
    "INSERT INTO price (variant_id, currency, amount_minor) SELECT id, 'USD', 5900 FROM variant",
    "INSERT INTO product_tag (product_id, tag, status) SELECT id, unnest(tags), status FROM product",
    "INSERT INTO category (name, slug) SELECT 'Category ' || n, 'category-' || n FROM generate_series(0, 19) AS n",
    """
    INSERT INTO product_category (product_id, category_id, direct, status)
    SELECT product.id, category.id, true, product.status
    FROM product JOIN category ON category.slug = 'category-' || (substr(product.slug, 9)::int % 20)
    """,
    "INSERT INTO location (code, name) VALUES ('BER-1', 'Berlin'), ('HAM-1', 'Hamburg')",
)

_STOCK: LiteralString = """
WITH made AS (
    INSERT INTO stock_level (variant_id, location_id, on_hand) SELECT variant.id, location.id, %(units)s FROM variant, location RETURNING *
)
INSERT INTO stock_movement (variant_id, location_id, delta_on_hand, delta_reserved, reason, cause_id)
SELECT variant_id, location_id, on_hand, 0, 'received', uuid_v7() FROM made
"""

_RESERVATIONS: LiteralString = """
WITH chosen AS (
    SELECT variant_id, location_id, uuid_v7() AS id FROM stock_level ORDER BY random() LIMIT %(count)s
), held AS (
    INSERT INTO reservation (id, status, expires_at) SELECT id, 'active', now() + interval '1 day' FROM chosen
), line AS (
    INSERT INTO reservation_line (reservation_id, variant_id, location_id, quantity) SELECT id, variant_id, location_id, 1 FROM chosen
), moved AS (
    INSERT INTO stock_movement (variant_id, location_id, delta_on_hand, delta_reserved, reason, cause_id)
    SELECT variant_id, location_id, 0, 1, 'reserved', id FROM chosen
), taken AS (
    UPDATE stock_level SET reserved = reserved + 1 FROM chosen
    WHERE stock_level.variant_id = chosen.variant_id AND stock_level.location_id = chosen.location_id
)
SELECT id FROM chosen
"""


def fill(url: str, *, products: int, with_stock: bool = True) -> None:
    """Make the shop in an empty, migrated database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_PRODUCTS, {"products": products})
        for statement in _REST:
            connection.execute(statement)
        if with_stock:
            connection.execute(_STOCK, {"units": UNITS_EACH})
        connection.execute("VACUUM ANALYZE")


def hold(url: str, count: int) -> list[UUID]:
    """Make `count` active reservations of one line each; returns their ids."""
    with psycopg.connect(url, autocommit=True) as connection:
        return [row[0] for row in connection.execute(_RESERVATIONS, {"count": count})]
