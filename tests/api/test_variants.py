"""Variants by their SKU: what it is, what it costs, how many are left."""

from typing import Any

import httpx
import pytest

from tests.shop import API, a_location, a_product, a_variant, adjust, patch, reserve, stock_of


async def variant(client: httpx.AsyncClient, sku: str) -> dict[str, Any]:
    answer = await client.get(f"{API}/variants/{sku}")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_a_variant_tells_its_product_its_prices_and_where_how_many_are(admin: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    product = await a_product(admin, "OTHER", variants=[a_variant("OTHER"), a_variant("LS-M", gtin="4006381333931", attributes={"a": [1]})])
    await stock_of(admin, "LS-M", 10, "HAM-1")
    await stock_of(admin, "LS-M", 3, "BER-1")
    await stock_of(admin, "OTHER", 7, "BER-1")
    await reserve(admin, {"sku": "LS-M", "quantity": 4, "location": "HAM-1"})
    assert await variant(viewer, "LS-M") == product["variants"][1] | {
        "archived": False,
        "product": {name: product[name] for name in ("id", "slug", "name", "status")},
        "availability": [
            {"location": "BER-1", "on_hand": 3, "reserved": 0, "available": 3},
            {"location": "HAM-1", "on_hand": 10, "reserved": 4, "available": 6},
        ],
    }


async def test_a_variant_that_never_had_stock_is_available_nowhere(admin: httpx.AsyncClient) -> None:
    await a_product(admin, "NEW")
    await a_location(admin, "BER-1")
    assert (await variant(admin, "NEW"))["availability"] == []


async def test_a_shortfall_is_shown_below_zero(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 5)
    await reserve(admin, {"sku": "A", "quantity": 4})
    await adjust(admin, "A", "BER-1", -3, reason="damaged")
    assert (await variant(admin, "A"))["availability"] == [{"location": "BER-1", "on_hand": 2, "reserved": 4, "available": -2}]


@pytest.mark.parametrize("sku", ["A/B/C", "a.b_c-d+e", "0", "x" * 64])
async def test_every_sku_that_can_be_made_can_be_asked_for(admin: httpx.AsyncClient, sku: str) -> None:
    await a_product(admin, sku)
    assert (await variant(admin, sku))["sku"] == sku


async def test_skus_are_told_apart_by_case(admin: httpx.AsyncClient) -> None:
    await a_product(admin, "abc", "ABC")
    assert [(await variant(admin, sku))["options"] for sku in ("abc", "ABC")] == [{"Size": "abc"}, {"Size": "ABC"}]


async def test_an_archived_variant_can_still_be_looked_up(admin: httpx.AsyncClient) -> None:
    product = await a_product(admin, "A", "B")
    await patch(admin, product, variants=[{"sku": "A"}])
    assert (await variant(admin, "B"))["archived"] is True
    await admin.delete(f"{API}/products/{product['id']}")
    found = await variant(admin, "A")
    assert (found["archived"], found["product"]["status"]) == (False, "archived")


async def test_an_unknown_sku_is_named(admin: httpx.AsyncClient) -> None:
    answer = await admin.get(f"{API}/variants/NOPE-1")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert "NOPE-1" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["-A", "A%20B", "%2FA", "x" * 65, "A%00", "%C3%84"])
async def test_what_cannot_be_a_sku_is_refused(admin: httpx.AsyncClient, path: str) -> None:
    answer = await admin.get(f"{API}/variants/{path}")
    assert (answer.status_code, answer.json()["errors"][0]["in"], answer.json()["errors"][0]["pointer"]) == (422, "path", "#/sku")
