import hashlib
import json
from collections import Counter

from app.core.gtin import is_gtin
from app.importers import CategoryRow, LocationRow, ProductRow
from app.importers.demo import demo_catalogue
from app.schemas.locations import LocationCreate
from app.schemas.products import ProductCreate

ROWS = list(demo_catalogue())
PRODUCTS = [row for row in ROWS if isinstance(row, ProductRow)]
LOCATIONS = [row for row in ROWS if isinstance(row, LocationRow)]
CATEGORIES = [row for row in ROWS if isinstance(row, CategoryRow)]
VARIANTS = [variant for row in PRODUCTS for variant in row.product["variants"]]


def digest(rows) -> str:
    text = json.dumps([[type(row).__name__, repr(row)] for row in rows])
    return hashlib.sha256(text.encode()).hexdigest()


def test_it_has_five_hundred_products_fifteen_hundred_variants_and_five_locations():
    assert (len(PRODUCTS), len(VARIANTS), len(LOCATIONS)) == (500, 1500, 5)
    assert len(ROWS) == len(PRODUCTS) + len(LOCATIONS) + len(CATEGORIES)
    assert [row.line for row in ROWS] == list(range(1, len(ROWS) + 1))


def test_the_first_product_is_the_one_of_the_readme():
    shirt = PRODUCTS[0]
    assert (shirt.product["slug"], shirt.product["status"]) == ("linen-shirt", "active")
    variant = shirt.product["variants"][0]
    assert (variant["sku"], variant["gtin"], variant["options"]) == ("LS-BLU-M", "4006381333931", {"Colour": "Blue", "Size": "M"})
    assert {"amount": 4900, "currency": "EUR"} in variant["prices"]
    assert {key: on_hand for key, on_hand in shirt.stock.items() if key[0] == "LS-BLU-M"} == {
        ("LS-BLU-M", "BER-1"): 24,
        ("LS-BLU-M", "HAM-1"): 8,
    }


def test_every_product_and_location_is_one_the_api_would_accept():
    for row in PRODUCTS:
        ProductCreate.model_validate(row.product)
    for location in LOCATIONS:
        LocationCreate(code=location.code, name=location.name, address=location.address)


def test_slugs_skus_and_gtins_are_never_the_same_twice():
    assert len({row.product["slug"] for row in PRODUCTS}) == 500
    assert len({variant["sku"] for variant in VARIANTS}) == 1500
    assert len({variant["gtin"] for variant in VARIANTS}) == 1500
    assert all(is_gtin(variant["gtin"]) for variant in VARIANTS)
    assert len({row.product["slug"] for row in demo_catalogue(seed=2, products=5_000) if isinstance(row, ProductRow)}) == 5_000


def test_categories_come_root_first_and_every_product_is_filed_in_one():
    seen: set[str] = set()
    for row in CATEGORIES:
        *ancestors, own = (step.slug for step in row.path)
        assert seen.issuperset(ancestors)
        seen.add(own)
    assert {len(row.path) for row in CATEGORIES} == {1, 2, 3}
    assert all(seen.issuperset(row.category_slugs) and row.category_slugs for row in PRODUCTS)


def test_stock_lies_at_every_location_some_low_some_gone_and_none_of_drafts():
    codes = {row.code for row in LOCATIONS}
    on_hand: Counter[str] = Counter()
    for row in PRODUCTS:
        for (sku, location), units in row.stock.items():
            assert location in codes
            on_hand[sku] += units
        assert {sku for sku, _ in row.stock} == (
            {v["sku"] for v in row.product["variants"]} if row.product["status"] == "active" else set()
        )
    assert {location for row in PRODUCTS for _, location in row.stock} == codes
    assert 50 < sum(units == 0 for units in on_hand.values()) < 250
    assert 50 < sum(0 < units < 5 for units in on_hand.values()) < 400
    assert 5 < sum(row.product["status"] == "draft" for row in PRODUCTS) < 50


def test_some_prices_are_in_dollars_too():
    currencies = Counter(price["currency"] for variant in VARIANTS for price in variant["prices"])
    assert currencies["EUR"] == 1500
    assert 300 < currencies["USD"] < 900


def test_a_seed_makes_the_same_catalogue_on_every_version_of_python():
    assert digest(ROWS) == "fd160025ef55bd2ddf2ab7be6a58f5e8d3ba97700fafe6dac3ed0fcb93c0a43e"
    assert digest(demo_catalogue(seed=2)) != digest(ROWS)
