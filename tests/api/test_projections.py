"""What PostgreSQL makes of our statements: JSON that is what OpenAPI promises, and plans that cost the same however much there is."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from pydantic import BaseModel
from sqlalchemy import make_url

from app.schemas.categories import CategoryOut
from app.schemas.locations import LocationOut
from app.schemas.products import ProductOut, VariantDetail
from app.schemas.reservations import ReservationOut
from app.schemas.stock import AdjustmentOut, MovementOut, StockLevelOut
from app.services import categories, locations, products, stock
from app.services.products import ProductFilter
from benchmarks.plans import Explaining, assert_walks_an_index, nodes
from benchmarks.scale import check_completeness
from tests.shop import API, a_category, a_location, a_product, reserve, stock_of

_TIMES = {"created_at", "updated_at", "expires_at"}


def assert_is(shape: type[BaseModel], answer: httpx.Response) -> Any:
    """The answer validates as the DTO and, once parsed, equals its dump: no field is missing, none is too many, none has another form."""
    document = answer.json()
    assert _with_times(document) == _with_times(shape.model_validate_json(answer.content).model_dump(mode="json")), document
    return document


async def assert_items_are(shape: type[BaseModel], client: httpx.AsyncClient, path: str) -> None:
    items = (await client.get(f"{API}{path}", params={"limit": 100})).json()["items"]
    assert items
    for item in items:
        assert _with_times(item) == _with_times(shape.model_validate(item).model_dump(mode="json"))


def _with_times(document: dict[str, Any]) -> dict[str, Any]:
    """The document with times as times, because PostgreSQL and pydantic write UTC in different ways."""
    found = {name: datetime.fromisoformat(value) if name in _TIMES else value for name, value in document.items()}
    if "updated_at" not in document and "lines" in document:
        found["lines"] = [_with_times(line) for line in document["lines"]]
    return found


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(-1e9, 1e9, width=32) | texts
nested = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8)
free_form = st.dictionaries(texts, nested.filter(lambda value: _depth(value) < 6), max_size=4)
options = st.dictionaries(texts, texts, min_size=1, max_size=3)
prices = st.dictionaries(st.sampled_from(["EUR", "USD", "JPY", "KWD"]), st.integers(0, 10**12)).map(
    lambda amounts: [{"amount": amount, "currency": currency} for currency, amount in sorted(amounts.items())]
)
contents = st.fixed_dictionaries(
    {
        "name": texts,
        "description": texts,
        "status": st.sampled_from(["draft", "active"]),
        "tags": st.lists(texts.map(lambda text: text.replace(",", ";")), max_size=3, unique=True),
        "attributes": free_form,
        "media": st.lists(st.fixed_dictionaries({"url": st.just("https://cdn.example/ü?a=1&b='\""), "alt": texts}), max_size=2),
    }
)
made = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@made
@given(content=contents, options=options, attributes=free_form, prices=prices, gtin=st.sampled_from([None, "4006381333931"]))
async def test_whatever_a_product_holds_comes_back_as_it_was_sent(
    admin: httpx.AsyncClient,
    content: dict[str, Any],
    options: dict[str, str],
    attributes: dict[str, Any],
    prices: list[Any],
    gtin: str | None,
) -> None:
    sku = f"SKU-{uuid4().hex}"
    variant = {"sku": sku, "gtin": gtin, "options": options, "attributes": attributes, "prices": prices}
    body = content | {"slug": f"p-{uuid4().hex}", "variants": [variant, {"sku": f"{sku}-2"}]}
    answer = await admin.post(f"{API}/products", json=body)
    assert answer.status_code == 201, answer.text
    document = assert_is(ProductOut, answer)
    assert {name: document[name] for name in content} == content
    assert {name: document["variants"][0][name] for name in variant} == variant
    assert list(document["variants"][0]["options"]) == list(options)
    assert assert_is(ProductOut, await admin.get(answer.headers["Location"])) == document
    detail = assert_is(VariantDetail, await admin.get(f"{API}/variants/{sku}"))
    assert detail == document["variants"][0] | {key: detail[key] for key in ("archived", "product", "availability")}


@made
@given(name=texts, address=free_form, active=st.booleans())
async def test_whatever_a_location_or_category_holds_comes_back_as_it_was_sent(
    admin: httpx.AsyncClient, name: str, address: dict[str, Any], active: bool
) -> None:
    body = {"code": uuid4().hex, "name": name, "address": address, "active": active}
    location = assert_is(LocationOut, await admin.post(f"{API}/locations", json=body))
    assert {key: location[key] for key in body} == body
    parent = assert_is(CategoryOut, await admin.post(f"{API}/categories", json={"name": name, "slug": uuid4().hex}))
    body = {"name": f"{name}!", "slug": uuid4().hex, "parent_id": parent["id"]}
    category = assert_is(CategoryOut, await admin.post(f"{API}/categories", json=body))
    assert {key: category[key] for key in body} == body
    assert category["path"] == [name, f"{name}!"]
    renamed = await admin.patch(f"{API}/categories/{category['id']}", json={"name": name})
    assert assert_is(CategoryOut, renamed)["path"] == [name, name]


@made
@given(reference=st.none() | texts, units=st.integers(1, 10**9))
async def test_stock_and_reservations_are_what_openapi_promises_in_every_state(
    admin: httpx.AsyncClient, reference: str | None, units: int
) -> None:
    skus, code = [f"SKU-{uuid4().hex}" for _ in range(2)], uuid4().hex
    await a_product(admin, *skus)
    await a_location(admin, code)
    lines = [{"sku": sku, "location": code, "delta": units} for sku in skus]
    body = {"lines": lines, "reason": "received", "reference": reference}
    answer = await admin.post(f"{API}/stock/adjustments", json=body, headers={"Idempotency-Key": uuid4().hex})
    assert [line["available"] for line in assert_is(AdjustmentOut, answer)["lines"]] == [units, units]
    for ending in ("release", "commit"):
        wanted = [{"sku": sku, "quantity": units} for sku in skus]
        held = assert_is(ReservationOut, await reserve(admin, *wanted, reference=reference, expires_in_seconds=3600))
        assert (held["reference"], held["status"]) == (reference, "active")
        assert held["lines"] == [{"sku": sku, "quantity": units, "location": code} for sku in sorted(skus)]
        address = f"{API}/reservations/{held['id']}"
        assert assert_is(ReservationOut, await admin.get(address)) == held
        assert_is(ReservationOut, await admin.post(f"{address}/extend", json={"expires_in_seconds": 7200}))
        assert_is(ReservationOut, await admin.post(f"{address}/{ending}"))
    assert_is(VariantDetail, await admin.get(f"{API}/variants/{skus[0]}"))


async def test_lists_hold_the_same_documents(admin: httpx.AsyncClient) -> None:
    await a_category(admin, "Shirts", await a_category(admin, "Clothes"))
    for sku, code in (("A", "BER-1"), ("A", "HAM-1"), ("B", "BER-1")):
        await stock_of(admin, sku, 5, code)
    await reserve(admin, {"sku": "A", "quantity": 2}, reference="order 1")
    for shape, path in (
        (ProductOut, "/products"),
        (ProductOut, "/products?updated_since=2000-01-01T00:00:00Z"),
        (CategoryOut, "/categories"),
        (LocationOut, "/locations"),
        (StockLevelOut, "/stock"),
        (MovementOut, "/stock/movements"),
    ):
        await assert_items_are(shape, admin, path)


def test_every_list_and_every_filter_is_measured_in_a_large_shop(app: FastAPI) -> None:
    check_completeness(app.openapi())


# A tenth of what a large shop has: enough for a wrong plan to show in the rows it reads, and still loaded within seconds.
_LOAD = """
INSERT INTO category (name, slug) SELECT 'Root', 'root-' || n FROM generate_series(0, 19) n;
INSERT INTO category (name, slug, parent_id)
    SELECT 'Leaf', 'leaf-' || n, (SELECT id FROM category WHERE slug = 'root-' || n % 20) FROM generate_series(1, 2000) n;
INSERT INTO location (code, name) SELECT 'L' || n, 'Place' FROM generate_series(1, 1000) n;
INSERT INTO product (slug, name, status, updated_at)
    SELECT 'p-' || n, repeat('Product ', 10) || n, CASE n % 10 WHEN 0 THEN 'archived' WHEN 1 THEN 'draft' ELSE 'active' END,
        timestamptz '2026-01-01T00:00:00Z' + make_interval(secs => n * 7919 % 20000)
    FROM generate_series(1, 20000) n;
INSERT INTO product_tag (product_id, tag, status) SELECT id, 'all', status FROM product;
INSERT INTO product_tag (product_id, tag, status) SELECT id, 'rare', status FROM product WHERE slug LIKE 'p-%77';
INSERT INTO product_category (product_id, category_id, direct, status)
    SELECT product.id, category.id, true, product.status
    FROM product JOIN category ON category.slug = 'leaf-' || substr(product.slug, 3)::int % 2000 + 1;
INSERT INTO product_category (product_id, category_id, direct, status)
    SELECT filed.product_id, category.parent_id, false, filed.status FROM product_category filed JOIN category ON category.id = filed.category_id;
INSERT INTO variant (product_id, sku, options, position) SELECT id, slug, '{}', 0 FROM product;
INSERT INTO price (variant_id, currency, amount_minor) SELECT id, 'EUR', 100 FROM variant;
INSERT INTO stock_level (variant_id, location_id, on_hand)
    SELECT variant.id, location.id, 1 FROM variant JOIN location ON location.code IN ('L1', 'L2') OR (location.code = 'L3' AND sku LIKE '%777');
INSERT INTO stock_movement (variant_id, location_id, delta_on_hand, delta_reserved, reason, cause_id)
    SELECT variant_id, location_id, 1, 0, 'received', variant_id FROM stock_level;
ANALYZE
"""


@pytest.fixture(scope="module")
def large_shop(new_database: Callable[..., str], server_urls: tuple[str, str]) -> str:
    url = new_database()
    # A superuser may load without checking every foreign key.
    with psycopg.connect(make_url(server_urls[0]).set(database=make_url(url).database).render_as_string(hide_password=False)) as admin:
        admin.execute("SET session_replication_role = replica")
        admin.execute(_LOAD)
    return url


@pytest.fixture(params=["force_generic_plan", "force_custom_plan"])
async def explaining(large_shop: str, request: pytest.FixtureRequest) -> AsyncIterator[Explaining]:
    async with await psycopg.AsyncConnection.connect(large_shop, autocommit=True) as connection:
        await connection.execute(sql.SQL("SET plan_cache_mode = {}").format(sql.SQL(request.param)))
        yield Explaining(connection)


_SINCE = datetime(2025, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("filters", "most_pages"),
    [
        (ProductFilter(), 600),
        (ProductFilter(status="active"), 600),
        (ProductFilter(status="archived"), 600),
        (ProductFilter(tag="all"), 600),
        (ProductFilter(tag="rare"), 600),
        (ProductFilter(tag="none"), 600),
        (ProductFilter(category="root-1"), 600),
        (ProductFilter(category="leaf-7"), 600),
        (ProductFilter(category="nothing"), 600),
        (ProductFilter(updated_since=_SINCE), 600),
        (ProductFilter(updated_since=_SINCE + timedelta(days=1)), 600),
        (ProductFilter(status="draft", tag="all"), 600),
        (ProductFilter(status="draft", category="root-2"), 600),
        (ProductFilter(tag="all", category="root-3"), 4000),
        (ProductFilter(tag="rare", category="root-3"), 4000),
        (ProductFilter(tag="rare", category="root-3", status="active", updated_since=_SINCE), 8000),
        (ProductFilter(tag="all", updated_since=_SINCE), 5000),
    ],
    ids=str,
)
async def test_a_page_of_products_costs_the_same_wherever_it_lies_and_however_they_are_filtered(
    explaining: Explaining, filters: ProductFilter, most_pages: int
) -> None:
    order = "updated_at, id" if filters.updated_since else "id"
    deep = await explaining.key_of(f"SELECT {order} FROM product ORDER BY {order} OFFSET 15000 LIMIT 1")
    for after in (None, deep):
        await products.list_products(explaining, filters, limit=20, after=after)
        assert_walks_an_index(explaining.plan, most_pages=most_pages)


async def test_of_two_filters_the_rarer_one_is_looked_through(explaining: Explaining) -> None:
    for rare, count in ((ProductFilter(tag="rare", category="root-18"), 200), (ProductFilter(tag="all", category="leaf-7"), 10)):
        page = await products.list_products(explaining, rare, limit=100, after=None)
        assert page.items.count(b'"slug"') == min(count, 100)
        assert (page.next_after is None) == (count < 100)
    nothing = await products.list_products(explaining, ProductFilter(tag="rare", category="root-3"), limit=20, after=None)
    assert (nothing.items, nothing.next_after) == (b"[]", None)


async def test_so_does_a_page_of_every_other_list(explaining: Explaining) -> None:
    root = await explaining.key_of("SELECT id FROM category WHERE slug = 'root-1'")
    for parent_id in (None, UUID(root[0])):
        deep = await explaining.key_of("SELECT id FROM category ORDER BY id OFFSET 1800 LIMIT 1")
        for after in (None, deep):
            await categories.list_categories(explaining, parent_id=parent_id, limit=20, after=after)
            assert_walks_an_index(explaining.plan, most_pages=250)
    for after in (None, await explaining.key_of("SELECT id FROM location ORDER BY id OFFSET 900 LIMIT 1")):
        await locations.list_locations(explaining, limit=20, after=after)
        assert_walks_an_index(explaining.plan, most_pages=10)
        assert "Sort" not in {node["Node Type"] for node in nodes(explaining.plan)}


async def test_so_does_a_page_of_stock_levels(explaining: Explaining) -> None:
    some = ["p-1", "p-9000", "p-19777", "nope"]
    hundred = [f"p-{number}" for number in range(19_700, 19_800)]
    deep = await explaining.key_of("SELECT variant_id, location_id FROM stock_level ORDER BY variant_id, location_id OFFSET 30000 LIMIT 1")
    for after in (None, deep):
        for skus, location in product([[], some, hundred], [None, "L1", "L3", "L999", "nope"]):
            await stock.list_levels(explaining, skus=skus, location=location, limit=20, after=after)
            assert_walks_an_index(explaining.plan, most_pages=700 if skus is hundred else 200)


async def test_so_does_a_page_of_the_ledger(explaining: Explaining) -> None:
    deep = await explaining.key_of("SELECT id FROM stock_movement ORDER BY id OFFSET 30000 LIMIT 1")
    for after in (None, deep):
        for sku, location in product([None, "p-19777", "nope"], [None, "L1", "L3", "L999", "nope"]):
            await stock.list_movements(explaining, sku=sku, location=location, limit=20, after=after)
            assert_walks_an_index(explaining.plan, most_pages=200)
