"""What an import does to the catalogue."""

import asyncio
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.config import Settings
from app.core.db import Database, ReadSession
from app.importers import CategoryRow, CategoryStep, LocationRow, ProductRow, Row, RowError
from app.schemas.products import MAX_PRODUCT_BYTES
from app.services import imports
from app.services.imports import Summary, Tally
from app.services.stock import reconcile
from tests.shop import API, a_category, a_location, a_product, level, reserve, stock_of

MIB = 2**20
TABLES = ("category", "location", "product", "product_category", "product_tag", "variant", "price", "stock_level", "stock_movement")


@pytest.fixture(autouse=True)
async def the_books_agree_afterwards(reading: ReadSession):
    yield
    assert await reconcile(reading) == []


def a_row(
    slug: str, *skus: str, line: int = 1, categories: Iterable[str] = (), stock: dict[str, int] | None = None, **fields: Any
) -> ProductRow:
    """A product on sale with a variant for each SKU, by default one; stock is at the default location."""
    body = {"name": slug.title(), "slug": slug, "status": "active", "variants": [a_variant(sku) for sku in skus or [slug.upper()]]}
    return ProductRow(line, body | fields, tuple(categories), {(sku, None): units for sku, units in (stock or {}).items()})


def a_variant(sku: str, **fields: Any) -> dict[str, Any]:
    return {"sku": sku, "options": {"Size": sku}, "prices": [{"amount": 4900, "currency": "EUR"}], **fields}


def a_category_row(*names: str, line: int = 1) -> CategoryRow:
    """The category at the end of a way from the root, with its name in lower case as its slug."""
    return CategoryRow(line, tuple(CategoryStep(name.lower(), name) for name in names))


async def load(database: Database, *rows: Row, **options: Any) -> tuple[Summary, list[RowError]]:
    errors: list[RowError] = []
    return await imports.load_rows(database, rows, on_error=errors.append, **options), errors


async def load_well(database: Database, *rows: Row, **options: Any) -> Summary:
    summary, errors = await load(database, *rows, **options)
    assert errors == []
    return summary


async def product_with(client: httpx.AsyncClient, sku: str) -> dict[str, Any]:
    """The product that a SKU belongs to, as the API shows it."""
    variant = (await client.get(f"{API}/variants/{sku}")).json()
    shown: dict[str, Any] = (await client.get(f"{API}/products/{variant['product']['id']}")).json()
    return shown


async def everything(reading: ReadSession) -> dict[str, list[Any]]:
    """Every row of every table with the transaction that wrote it, so that not even a change to the same goes unnoticed."""
    query = "SELECT to_jsonb(t) || jsonb_build_object('xmin', xmin::text) FROM {} t ORDER BY 1"
    return {table: await reading.fetch_all(query.format(table)) for table in TABLES}


async def slugs_by(client: httpx.AsyncClient, **wanted: str) -> set[str]:
    return {item["slug"] for item in (await client.get(f"{API}/products", params=wanted)).json()["items"]}


async def test_a_product_is_stored_with_all_that_its_row_says(database: Database, admin: httpx.AsyncClient) -> None:
    shoes = await a_category(admin, "Shoes")
    variants = [
        a_variant("RS-38", gtin="4006381333931", options={"Size": "38", "Colour": "Natural"}, attributes={"weight": 310}),
        a_variant("RS-39", options={"Size": "39"}, prices=[{"amount": 5900, "currency": "EUR"}, {"amount": 990000, "currency": "JPY"}]),
    ]
    media = [{"url": "https://images.example.com/1.jpg", "alt": "Front"}, {"url": "https://images.example.com/2.jpg"}]
    fields: dict[str, Any] = {
        "description": "Woven.",
        "tags": ["summer", "rope"],
        "attributes": {"vendor": "Quayside"},
        "media": media,
        "variants": variants,
    }
    summary = await load_well(database, a_row("rope-sandal", categories=["shoes"], stock={"RS-38": 4, "RS-39": 0}, **fields))
    shown = await product_with(admin, "RS-38")
    assert {name: shown[name] for name in ("name", "status", "description", "tags", "attributes", "category_ids", "version")} == {
        "name": "Rope-Sandal",
        "status": "active",
        "description": "Woven.",
        "tags": ["summer", "rope"],
        "attributes": {"vendor": "Quayside"},
        "category_ids": [shoes["id"]],
        "version": 1,
    }
    assert shown["media"] == [media[0], media[1] | {"alt": ""}]
    first, second = shown["variants"]
    assert (first["sku"], first["gtin"], list(first["options"]), first["attributes"]) == (
        "RS-38",
        "4006381333931",
        ["Size", "Colour"],
        {"weight": 310},
    )
    assert second["prices"] == variants[1]["prices"]
    assert await level(admin, "RS-38", "MAIN") == (4, 0)
    assert await level(admin, "RS-39", "MAIN") == (0, 0)
    assert (summary.products, summary.variants, summary.stock_levels) == (Tally(created=1), Tally(created=2), Tally(created=2))
    assert (summary.rows, summary.failed_rows, summary.default_location_made, summary.has_changes) == (1, 0, True, True)


async def test_an_import_outlives_another_ones_counting_and_counts_itself_with_what_it_stores(
    database: Database, database_url: str
) -> None:
    async def total() -> Any:
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            return await (await connection.execute("SELECT outcome, rows FROM import_total ORDER BY outcome")).fetchall()

    quick = Database(database_url, Settings(_env_file=None, lock_timeout_seconds=0.2), pool_size=1)
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("LOCK TABLE import_total IN EXCLUSIVE MODE")
        loading = asyncio.create_task(load(quick, a_row("tee"), a_row("tee", line=2), RowError(3, "unreadable")))
        await asyncio.sleep(0.4)
        assert await database.read().fetch_all("SELECT FROM product") == []
        await other.rollback()
    summary, errors = await loading
    await quick.close()
    assert (summary.rows, summary.failed_rows, len(errors)) == (3, 1, 1)
    assert await total() == [("failed", 1), ("stored", 2)]


async def test_importing_the_same_again_changes_nothing(database: Database, reading: ReadSession) -> None:
    rows: list[Row] = [
        a_category_row("Home", "Kitchen"),
        LocationRow(2, "BER-1", "Berlin", {"city": "Berlin", "latitude": 52.5}),
        a_row(
            "tin-kettle", "TK-1", "TK-2", line=3, categories=["kitchen"], tags=["tin", "camping"], attributes={"a": 1.0}, stock={"TK-1": 3}
        ),
        ProductRow(4, a_row("mug").product, stock={("MUG", "BER-1"): 7}),
    ]
    assert (await load_well(database, *rows)).has_changes
    before = await everything(reading)
    again = await load_well(database, *rows)
    assert not again.has_changes
    assert (again.products, again.variants) == (Tally(unchanged=2), Tally(unchanged=3))
    assert (again.categories, again.locations, again.stock_levels) == (Tally(unchanged=1), Tally(unchanged=1), Tally(unchanged=2))
    assert await everything(reading) == before


async def test_a_changed_row_changes_its_product_and_no_other(database: Database, admin: httpx.AsyncClient) -> None:
    await load_well(database, a_row("cup", "CUP-1", "CUP-2"), a_row("bowl"))
    before = await product_with(admin, "CUP-1")
    dearer = [a_variant("CUP-1", prices=[{"amount": 5900, "currency": "EUR"}]), a_variant("CUP-2")]
    summary = await load_well(database, a_row("cup", name="Tall cup", tags=["tall"], variants=dearer), a_row("bowl"))
    assert (summary.products, summary.variants) == (Tally(updated=1, unchanged=1), Tally(updated=1, unchanged=2))
    after = await product_with(admin, "CUP-1")
    assert (after["name"], after["version"]) == ("Tall cup", before["version"] + 1)
    assert after["updated_at"] > before["updated_at"]
    assert after["variants"][0]["prices"] == [{"amount": 5900, "currency": "EUR"}]
    assert (await product_with(admin, "BOWL"))["version"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Other"},
        {"description": "Other"},
        {"status": "draft"},
        {"tags": ["other"]},
        {"attributes": {"other": 1}},
        {"media": [{"url": "https://images.example.com/other.jpg"}]},
        {"category_ids": []},
        {"variants": [a_variant("CUP", gtin="4006381333931")]},
        {"variants": [a_variant("CUP", options={"Size": "other"})]},
        {"variants": [a_variant("CUP", attributes={"other": 1})]},
        {"variants": [a_variant("CUP", prices=[])]},
        {"variants": [a_variant("CUP"), a_variant("CUP-2")]},
    ],
)
async def test_whatever_differs_makes_one_new_version(database: Database, admin: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    await a_category(admin, "Home")
    await load_well(database, a_row("cup", categories=["home"]))
    assert (await load_well(database, a_row("cup", **changes))).products == Tally(updated=1)
    assert (await product_with(admin, "CUP"))["version"] == 2
    assert not (await load_well(database, a_row("cup", **changes))).has_changes


async def test_what_a_row_does_not_name_stays(database: Database, admin: httpx.AsyncClient) -> None:
    await a_category(admin, "Home")
    full = a_variant("CUP", gtin="4006381333931", attributes={"weight": 1})
    described: dict[str, Any] = {
        "description": "Tall.",
        "tags": ["tall"],
        "attributes": {"a": 1},
        "media": [{"url": "https://example.com/1.jpg", "alt": ""}],
    }
    await load_well(database, a_row("cup", categories=["home"], variants=[full], stock={"CUP": 5}, **described))
    before = await product_with(admin, "CUP")
    summary = await load_well(database, ProductRow(1, {"name": "Cup", "slug": "cup", "variants": [{"sku": "CUP"}]}))
    assert not summary.has_changes
    assert await product_with(admin, "CUP") == before
    assert await level(admin, "CUP", "MAIN") == (5, 0)


async def test_a_null_gtin_takes_the_gtin_away(database: Database, admin: httpx.AsyncClient) -> None:
    await load_well(database, a_row("cup", variants=[a_variant("CUP", gtin="4006381333931")]))
    assert (await load_well(database, a_row("cup", variants=[a_variant("CUP", gtin=None)]))).variants == Tally(updated=1)
    assert (await product_with(admin, "CUP"))["variants"][0]["gtin"] is None


async def test_variants_that_a_row_leaves_out_stay_and_new_ones_come_after_them(database: Database, admin: httpx.AsyncClient) -> None:
    await load_well(database, a_row("cup", "CUP-S", "CUP-M"))
    summary = await load_well(database, a_row("cup", "CUP-L", "CUP-M"))
    assert summary.variants == Tally(created=1, unchanged=1)
    assert [variant["sku"] for variant in (await product_with(admin, "CUP-M"))["variants"]] == ["CUP-S", "CUP-M", "CUP-L"]


async def test_a_row_with_all_variants_says_their_order(database: Database, admin: httpx.AsyncClient) -> None:
    await load_well(database, a_row("cup", "CUP-M", "CUP-S"))
    await load_well(database, a_row("cup", "CUP-S", "CUP-M"))
    assert [variant["sku"] for variant in (await product_with(admin, "CUP-M"))["variants"]] == ["CUP-S", "CUP-M"]


async def test_an_archived_variant_in_a_row_is_live_again(database: Database, admin: httpx.AsyncClient) -> None:
    made = await a_product(admin, "CUP-S", "CUP-M", slug="cup")
    body = {"variants": [{"sku": "CUP-S"}]}
    assert (await admin.patch(f"{API}/products/{made['id']}", json=body, headers={"If-Match": '"1"'})).status_code == 200
    assert (await load_well(database, a_row("cup", "CUP-S", "CUP-M"))).variants == Tally(updated=1, unchanged=1)
    assert [variant["sku"] for variant in (await product_with(admin, "CUP-S"))["variants"]] == ["CUP-S", "CUP-M"]


async def test_what_the_api_made_is_not_changed_by_a_row_that_says_the_same(database: Database, admin: httpx.AsyncClient) -> None:
    variant = a_variant("RB-1", options={"Größe": "200 l", "Colour": "Green"}, attributes={"lid": True})
    fields: dict[str, Any] = {"name": "Rain barrel", "tags": ["garden"], "attributes": {"litres": 200}, "variants": [variant]}
    made = await a_product(admin, slug="rain-barrel", **fields)
    assert not (await load_well(database, a_row("rain-barrel", **fields))).has_changes
    turned = variant | {"options": {"Colour": "Green", "Größe": "200 l"}}
    assert (await load_well(database, a_row("rain-barrel", **fields | {"variants": [turned]}))).variants == Tally(updated=1)
    assert list((await product_with(admin, "RB-1"))["variants"][0]["options"]) == ["Colour", "Größe"]
    assert (await product_with(admin, "RB-1"))["id"] == made["id"]


async def test_lists_by_tag_category_and_status_find_what_was_imported(database: Database, admin: httpx.AsyncClient) -> None:
    await load_well(database, a_category_row("Home", "Kitchen"), a_category_row("Garden", line=2))
    await load_well(database, a_row("cup", categories=["kitchen"], tags=["tall", "tin"]), a_row("bowl", categories=["kitchen"]))
    assert await slugs_by(admin, category="home") == {"cup", "bowl"}
    assert await slugs_by(admin, tag="tin") == {"cup"}
    await load_well(database, a_row("cup", categories=["garden"], tags=["tall"], status="draft"))
    assert await slugs_by(admin, category="home") == {"bowl"}
    assert await slugs_by(admin, category="garden", status="draft") == {"cup"}
    assert await slugs_by(admin, tag="tin") == set()
    assert await slugs_by(admin, tag="tall", status="draft") == {"cup"}


async def test_a_product_can_be_filed_by_ids_and_slugs_together(database: Database, admin: httpx.AsyncClient) -> None:
    home, garden = await a_category(admin, "Home"), await a_category(admin, "Garden")
    await load_well(database, a_row("cup", categories=["garden"], category_ids=[home["id"]]))
    assert sorted((await product_with(admin, "CUP"))["category_ids"]) == sorted([home["id"], garden["id"]])


async def test_values_that_the_api_would_refuse_are_errors_with_a_pointer_and_the_line(
    database: Database, admin: httpx.AsyncClient
) -> None:
    bad = a_row("cup", line=7, variants=[a_variant("CUP"), a_variant("CUP 2", gtin="4006381333930")], colour="blue")
    summary, errors = await load(database, a_row("bowl", line=2), bad, a_row("mug", line=12))
    assert [(error.line, error.field) for error in errors] == [(7, "/variants/1/sku"), (7, "/variants/1/gtin"), (7, "/colour")]
    assert "check digit" in errors[1].message
    assert (summary.rows, summary.failed_rows, summary.products) == (3, 1, Tally(created=2))
    assert await slugs_by(admin) == {"bowl", "mug"}


async def test_a_row_with_a_hundred_thousand_errors_is_one_error(database: Database) -> None:
    _, errors = await load(database, a_row("cup", **dict[str, Any](dict.fromkeys((f"unknown-{number}" for number in range(100_000)), 0))))
    assert errors == [RowError(1, "100000 values in here are not acceptable, too many to name them.", "")]


async def test_a_row_larger_than_a_product_may_be_is_an_error(database: Database) -> None:
    variants = [{"sku": f"A-{number}", "attributes": {"text": "x" * 16_000}} for number in range(17)]
    _, (error,) = await load(database, a_row("cup", variants=variants))
    assert f"at most {MAX_PRODUCT_BYTES} bytes" in error.message


async def test_errors_of_the_file_are_passed_on_among_the_others_by_line(database: Database) -> None:
    rows: list[Row] = [
        RowError(1, "unreadable"),
        a_row("cup", line=2, categories=["nowhere"]),
        RowError(3, "unreadable", "Price"),
        a_row("mug", line=4),
    ]
    summary, errors = await load(database, *rows)
    assert [error.line for error in errors] == [1, 2, 3]
    assert (summary.rows, summary.failed_rows, summary.last_line, summary.products.created) == (4, 3, 4, 1)


async def test_a_sku_of_another_product_fails_the_whole_row_and_no_other(database: Database, admin: httpx.AsyncClient) -> None:
    await a_product(admin, "TAKEN", slug="owner")
    _, errors = await load(database, a_row("cup", "CUP", "TAKEN", line=2, stock={"CUP": 1}), a_row("mug", line=5))
    assert errors == [RowError(2, "The SKU `TAKEN` belongs to the product `owner`.", "/variants/1/sku")]
    assert await slugs_by(admin) == {"owner", "mug"}


@pytest.mark.parametrize("between", [0, 600])
async def test_a_sku_in_two_products_of_a_file_stays_with_the_first(database: Database, admin: httpx.AsyncClient, between: int) -> None:
    rows = [a_row("first", "SAME"), *(a_row(f"other-{number}") for number in range(between)), a_row("second", "SAME", line=9)]
    for _ in range(2):
        _, errors = await load(database, *rows)
        assert errors == [RowError(9, "The SKU `SAME` belongs to the product `first`.", "/variants/0/sku")]
    assert (await product_with(admin, "SAME"))["slug"] == "first"


@pytest.mark.parametrize("between", [0, 600])
async def test_of_two_rows_with_one_slug_the_last_wins(database: Database, admin: httpx.AsyncClient, between: int) -> None:
    others = [a_row(f"other-{number}") for number in range(between)]
    await load_well(database, a_row("cup", name="First", description="Kept"), *others, a_row("cup", name="Second"))
    shown = await product_with(admin, "CUP")
    assert (shown["name"], shown["description"], shown["version"]) == ("Second", "Kept", 2)


async def test_unknown_categories_and_locations_fail_their_row(database: Database, admin: httpx.AsyncClient) -> None:
    unknown = "01890a5d-ac96-774b-bcce-b302099a8057"
    rows = [
        a_row("cup", line=1, categories=["nowhere"]),
        a_row("mug", line=2, category_ids=[unknown]),
        ProductRow(3, a_row("bowl").product, stock={("BOWL", "GONE"): 1}),
        a_row("plate", line=4, stock={"PLATE": 2}),
    ]
    _, errors = await load(database, *rows)
    assert [(error.line, error.field) for error in errors] == [(1, "/category_slugs"), (2, "/category_ids"), (3, "/stock")]
    assert "`nowhere`" in errors[0].message
    assert unknown in errors[1].message
    assert "`GONE`" in errors[2].message
    assert await slugs_by(admin) == {"plate"}


async def test_options_of_a_variant_that_is_left_out_cannot_be_given_to_another(database: Database, admin: httpx.AsyncClient) -> None:
    await load_well(database, a_row("cup", "OLD"))
    renamed = a_row("cup", line=3, variants=[a_variant("NEW", options={"Size": "OLD"})])
    _, (error,) = await load(database, renamed)
    assert (error.line, error.field) == (3, "/variants/0/options")
    assert "`OLD`" in error.message
    assert [variant["sku"] for variant in (await product_with(admin, "OLD"))["variants"]] == ["OLD"]


async def test_options_of_an_archived_variant_are_free(database: Database, admin: httpx.AsyncClient) -> None:
    await a_product(admin, "OLD", "CUP", slug="cup")
    assert (
        await admin.patch(
            f"{API}/products/{(await product_with(admin, 'OLD'))['id']}", json={"variants": [{"sku": "CUP"}]}, headers={"If-Match": '"1"'}
        )
    ).status_code == 200
    await load_well(database, a_row("cup", variants=[a_variant("NEW", options={"Size": "OLD"})]))
    assert {variant["sku"] for variant in (await product_with(admin, "NEW"))["variants"]} == {"CUP", "NEW"}


async def test_stock_is_set_and_the_difference_is_in_the_ledger(database: Database, admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "CUP", 10)
    row = ProductRow(1, (await product_with_slug(admin, "CUP")), stock={("CUP", "BER-1"): 4})
    summary = await load_well(database, row)
    assert summary.stock_levels == Tally(updated=1)
    assert await level(admin, "CUP") == (4, 0)
    movement = (await admin.get(f"{API}/stock/movements", params={"sku": "CUP"})).json()["items"][-1]
    assert (movement["delta_on_hand"], movement["delta_reserved"], movement["reason"]) == (-6, 0, "imported")
    assert movement["cause_id"] == str(summary.import_id)


async def product_with_slug(client: httpx.AsyncClient, sku: str) -> dict[str, Any]:
    """The least that names a stored product."""
    shown = await product_with(client, sku)
    return {"name": shown["name"], "slug": shown["slug"], "variants": [{"sku": sku}]}


async def test_a_count_below_what_is_reserved_is_a_shortfall(database: Database, admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "CUP", 10)
    await reserve(admin, {"sku": "CUP", "quantity": 8})
    await load_well(database, ProductRow(1, await product_with_slug(admin, "CUP"), stock={("CUP", "BER-1"): 3}))
    (item,) = (await admin.get(f"{API}/stock", params={"sku": "CUP"})).json()["items"]
    assert (item["on_hand"], item["reserved"], item["available"]) == (3, 8, -5)


async def test_stock_without_a_location_goes_to_the_one_that_is_said(database: Database, admin: httpx.AsyncClient) -> None:
    await a_location(admin, "SHOP")
    summary = await load_well(database, a_row("cup", stock={"CUP": 4}), location="SHOP")
    assert not summary.default_location_made
    assert await level(admin, "CUP", "SHOP") == (4, 0)


async def test_a_default_location_that_nothing_needs_is_not_made(database: Database, admin: httpx.AsyncClient) -> None:
    await a_location(admin, "BER-1")
    elsewhere = ProductRow(1, a_row("bowl").product, stock={("BOWL", "BER-1"): 1})
    summary, _ = await load(database, a_row("cup"), elsewhere, a_row("mug", categories=["nowhere"], stock={"MUG": 1}))
    assert not summary.default_location_made
    assert [item["code"] for item in (await admin.get(f"{API}/locations")).json()["items"]] == ["BER-1"]


async def test_categories_are_made_with_the_ancestors_they_need(database: Database, admin: httpx.AsyncClient) -> None:
    rows = [a_category_row("Home", "Kitchen", "Cups"), a_category_row("Home", line=2), a_category_row("Garden", line=3)]
    summary = await load_well(database, *rows)
    assert summary.categories == Tally(created=4, unchanged=1)
    items = (await admin.get(f"{API}/categories")).json()["items"]
    assert {item["slug"]: item["path"] for item in items}["cups"] == ["Home", "Kitchen", "Cups"]
    below = await load_well(database, a_category_row("Home", "Bath"))
    assert below.categories == Tally(created=1)


async def test_a_category_takes_its_name_from_its_own_row(database: Database, admin: httpx.AsyncClient) -> None:
    await load_well(database, a_category_row("Home", "Bath"))
    path = (CategoryStep("home", "Ignored"), CategoryStep("bath", "Bathroom"))
    assert (await load_well(database, CategoryRow(1, path))).categories == Tally(updated=1)
    items = {item["slug"]: item for item in (await admin.get(f"{API}/categories")).json()["items"]}
    assert (items["bath"]["path"], items["bath"]["version"], items["home"]["version"]) == (["Home", "Bathroom"], 2, 1)


@pytest.mark.parametrize(
    ("path", "place"), [(("Garden", "Cups"), "below `kitchen`, not below `garden`"), (("Cups", "Blue"), "below `kitchen`, not at the root")]
)
async def test_a_category_is_never_moved(database: Database, admin: httpx.AsyncClient, path: tuple[str, ...], place: str) -> None:
    _, (error,) = await load(database, a_category_row("Kitchen", "Cups"), a_category_row(*path, line=4), a_category_row("Bath", line=5))
    assert error.line == 4
    assert f"`cups` is {place}" in error.message
    paths = [item["path"] for item in (await admin.get(f"{API}/categories")).json()["items"]]
    assert sorted(paths) == [["Bath"], ["Kitchen"], ["Kitchen", "Cups"]]


async def test_a_category_that_the_api_would_refuse_is_an_error_with_a_pointer(database: Database) -> None:
    too_deep = a_category_row(*(f"Level{number}" for number in range(21)), line=2)
    _, errors = await load(database, CategoryRow(1, (CategoryStep("home", "Home"), CategoryStep("Not A Slug", "Bath"))), too_deep)
    assert [(error.line, error.field) for error in errors] == [(1, "/path/1/slug"), (2, "/path")]


async def test_locations_are_made_and_changed_by_their_code(database: Database, admin: httpx.AsyncClient) -> None:
    rows = [
        LocationRow(1, "BER-1", "Berlin", {"city": "Berlin"}),
        LocationRow(2, "HAM-1", "Hamburg", {}),
        LocationRow(3, "no code", "?", {}),
    ]
    summary, (error,) = await load(database, *rows)
    assert (summary.locations, error.line, error.field) == (Tally(created=2), 3, "/code")
    summary = await load_well(database, LocationRow(1, "BER-1", "Berlin", {"city": "Berlin", "country": "DE"}), rows[1])
    assert summary.locations == Tally(updated=1, unchanged=1)
    items = {item["code"]: item for item in (await admin.get(f"{API}/locations")).json()["items"]}
    assert (items["BER-1"]["address"], items["BER-1"]["version"]) == ({"city": "Berlin", "country": "DE"}, 2)
    assert items["HAM-1"]["version"] == 1


async def test_a_dry_run_tells_what_would_happen_and_writes_nothing(
    database: Database, admin: httpx.AsyncClient, reading: ReadSession
) -> None:
    await a_product(admin, "TAKEN", slug="owner")
    await load_well(database, a_row("cup", stock={"CUP": 3}))
    before = await everything(reading)
    rows = [a_row("cup", name="Other", stock={"CUP": 9}), a_row("mug", stock={"MUG": 2}), a_row("bowl", "TAKEN", line=3)]
    rehearsed, rehearsed_errors = await load(database, *rows, dry_run=True)
    assert await everything(reading) == before
    done, done_errors = await load(database, *rows)
    assert rehearsed_errors == done_errors != []
    assert (rehearsed.products, rehearsed.variants, rehearsed.stock_levels) == (done.products, done.variants, done.stock_levels)
    assert done.products == Tally(created=1, updated=1)


async def test_the_demo_catalogue_can_be_loaded_and_loaded_again(
    database: Database, admin: httpx.AsyncClient, reading: ReadSession
) -> None:
    summary = await imports.load_demo(database)
    assert (summary.products.created, summary.variants.created, summary.locations.created, summary.failed_rows) == (500, 1500, 5, 0)
    assert {item["location"] for item in (await admin.get(f"{API}/variants/LS-BLU-M")).json()["availability"]} == {"BER-1", "HAM-1"}
    before = await everything(reading)
    assert not (await imports.load_demo(database)).has_changes
    assert await everything(reading) == before


async def test_two_imports_of_the_same_at_once_store_it_once(database: Database, admin: httpx.AsyncClient) -> None:
    rows = [a_row(f"product-{number}", stock={f"PRODUCT-{number}": 5}, tags=["new"]) for number in range(700)]
    summaries = await asyncio.gather(*(load_well(database, *given) for given in (rows, rows[::-1], rows)))
    assert sum(summary.products.created for summary in summaries) == 700
    assert sum(summary.stock_levels.created for summary in summaries) == 700
    assert sum(summary.products.created + summary.products.updated + summary.products.unchanged for summary in summaries) == 2100
    assert await level(admin, "PRODUCT-0", "MAIN") == (5, 0)


async def test_imports_and_reservations_of_the_same_stock_never_wait_for_each_other_in_a_circle(
    database: Database, admin: httpx.AsyncClient
) -> None:
    skus = [f"PRODUCT-{number}" for number in range(40)]
    await load_well(database, *(a_row(sku.lower(), stock={sku: 1000}) for sku in skus))

    async def count_again() -> None:
        for units in (900, 1100, 800, 1200):
            await load_well(database, *(a_row(sku.lower(), stock={sku: units}) for sku in skus[:: 1 if units > 1000 else -1]))

    async def sell(order: list[str]) -> None:
        for number in range(0, 40, 4):
            held = await reserve(admin, *({"sku": sku, "quantity": 1} for sku in order[number : number + 8]))
            assert held.status_code == 201, held.text
            ended = await admin.post(
                f"{API}/reservations/{held.json()['id']}/{('commit', 'release')[number % 8 == 0]}",
                headers={"Idempotency-Key": uuid4().hex},
            )
            assert ended.status_code == 200, ended.text

    await asyncio.gather(count_again(), count_again(), *(sell(order) for order in (skus, skus[::-1], skus[20:] + skus[:20], skus[::-1])))
    assert [(await level(admin, sku, "MAIN"))[1] for sku in skus] == [0] * 40


async def test_memory_does_not_grow_with_the_file(database: Database) -> None:
    def rows(count: int) -> Iterator[Row]:
        for number in range(count):
            yield a_row(f"product-{number}", line=number, description=f"{number} " + "long " * 400)

    async def peak_bytes(count: int) -> int:
        tracemalloc.start()
        try:
            await imports.load_rows(database, rows(count))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small = await peak_bytes(1_000)
    assert await peak_bytes(3_000) < small + 4 * MIB
    assert small < 40 * MIB


async def test_large_rows_make_smaller_batches(database: Database) -> None:
    def row(number: int) -> ProductRow:
        return a_row(
            f"product-{number}", variants=[{"sku": f"{number}-{size}", "attributes": {"text": "x" * 16_000}} for size in range(15)]
        )

    rows = (row(number) for number in range(260))
    tracemalloc.start()
    try:
        summary = await imports.load_rows(database, rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (summary.products.created, summary.failed_rows) == (260, 0)
    assert peak < 40 * MIB


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
json_objects = st.dictionaries(st.text(min_size=1, max_size=5), json_values, max_size=3)
variants = st.fixed_dictionaries(
    {"sku": st.sampled_from(["A", "B", "C", "?"])},
    optional={
        "options": st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=2),
        "attributes": json_objects,
        "gtin": json_values,
    },
)
products = st.fixed_dictionaries(
    {"name": st.text(max_size=5), "slug": st.sampled_from(["cup", "mug"]), "variants": st.lists(variants, max_size=3) | json_values},
    optional={"description": json_values, "tags": st.lists(st.text(), max_size=3), "attributes": json_objects, "media": json_values},
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=st.lists(products, max_size=4))
async def test_whatever_a_row_holds_it_is_stored_or_an_error(database: Database, bodies: list[dict[str, Any]]) -> None:
    summary, errors = await load(database, *(ProductRow(line, body) for line, body in enumerate(bodies, start=1)))
    assert summary.rows == len(bodies)
    assert summary.failed_rows == len({error.line for error in errors})
    assert summary.failed_rows + summary.products.created + summary.products.updated + summary.products.unchanged == len(bodies)


async def test_a_number_that_json_cannot_carry_fails_its_row(database: Database) -> None:
    summary, (error,) = await load(database, a_row("cup", attributes={"number": 2**64}, line=3), a_row("mug"))
    assert (error.line, summary.products.created) == (3, 1)
