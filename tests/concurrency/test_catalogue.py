"""The catalogue under many hands at once: one wins and the others are told, nothing deadlocks, and the lists stay true."""

import asyncio
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from app.core.db import Database, ReadSession
from app.schemas.stock import AdjustmentCreate, AdjustmentLine
from app.services import stock
from tests.pools import with_pool
from tests.shop import API, a_category, a_location, a_product, a_variant, adjust, misfiled, pages, patch, reserve, stock_of

CONNECTIONS = 16


@pytest.fixture(autouse=True)
async def lists_and_books_are_true_afterwards(reading: ReadSession):
    yield
    assert await misfiled(reading) == []
    assert await stock.reconcile(reading) == []


@pytest.fixture
async def crowd(app: FastAPI, admin: httpx.AsyncClient, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator whose requests may use sixteen connections at once."""
    async with with_pool(app, settings, size=CONNECTIONS):
        yield admin


async def statuses(*requests: Any) -> list[int]:
    return sorted([answer.status_code for answer in await asyncio.gather(*requests)])


def product_of(*skus: str) -> dict[str, Any]:
    return {"name": f"Product {uuid4().hex}", "variants": [a_variant(sku) for sku in skus]}


async def test_of_sixteen_changes_to_one_version_exactly_one_wins(crowd: httpx.AsyncClient) -> None:
    product = await a_product(crowd, "A")
    answers = await asyncio.gather(*(patch(crowd, product, name=f"Name {number}", tags=[f"t{number}"]) for number in range(CONNECTIONS)))
    (winner,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} == {200, 412}
    assert await pages(crowd, "/products") == [[winner]]
    assert winner["version"] == 2
    assert await pages(crowd, "/products", tag=winner["tags"][0]) == [[winner]]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/products", {"name": "Linen shirt", "variants": [{"sku": "A"}]}),
        ("/categories", {"name": "Shirts"}),
        ("/locations", {"code": "BER-1", "name": "Berlin"}),
    ],
)
async def test_of_sixteen_who_make_the_same_exactly_one_succeeds(crowd: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    assert await statuses(*(crowd.post(f"{API}{path}", json=body) for _ in range(CONNECTIONS))) == [201] + [409] * 15
    assert len((await pages(crowd, path))[0]) == 1


async def test_products_that_want_the_same_skus_in_opposite_orders_do_not_wait_in_a_circle(crowd: httpx.AsyncClient) -> None:
    for number in range(12):
        skus = [f"SKU-{number}-{letter}" for letter in "ABCDEFGH"]
        makers = [crowd.post(f"{API}/products", json=product_of(*(skus if even else skus[::-1]))) for even in [True, False] * 4]
        assert await statuses(*makers) == [201] + [409] * 7


async def test_moves_of_categories_and_changes_of_their_products_do_not_wait_in_a_circle(crowd: httpx.AsyncClient) -> None:
    roots = [await a_category(crowd, f"Root {number}") for number in range(2)]
    child = await a_category(crowd, "Child", roots[0])
    other = await a_category(crowd, "Other", roots[0])
    products = [await a_product(crowd, category_ids=[child["id"]]) for _ in range(4)]

    async def move() -> None:
        for parent in [*roots[::-1], *roots] * 3:
            answer = await crowd.patch(f"{API}/categories/{child['id']}", json={"parent_id": parent["id"]})
            assert answer.status_code == 200, answer.text

    async def change(product: dict[str, Any], *changes: dict[str, Any]) -> None:
        for _, body in zip(range(12), cycle(changes), strict=False):
            answer = await crowd.patch(f"{API}/products/{product['id']}", json=body, headers={"If-Match": "*"})
            assert answer.status_code == 200, answer.text

    async def archive(product: dict[str, Any]) -> None:
        for _ in range(6):
            assert (await crowd.delete(f"{API}/products/{product['id']}")).status_code == 204
            await change(product, {"status": "active"})

    await asyncio.gather(
        move(),
        change(products[0], {"status": "draft"}, {"status": "active"}),
        change(products[1], {"category_ids": [other["id"]]}, {"category_ids": [child["id"], other["id"]]}),
        change(products[2], {"category_ids": [], "status": "draft"}, {"category_ids": [child["id"]], "status": "active"}),
        archive(products[3]),
    )


async def test_two_moves_that_would_close_a_circle_cannot_both_happen(crowd: httpx.AsyncClient) -> None:
    for number in range(5):
        first, second = await a_category(crowd, f"First {number}"), await a_category(crowd, f"Second {number}")
        moves = [
            crowd.patch(f"{API}/categories/{one['id']}", json={"parent_id": other["id"]})
            for one, other in ((first, second), (second, first))
        ]
        assert await statuses(*moves) == [200, 409]


async def test_a_product_is_never_filed_under_a_category_that_goes_at_the_same_moment(crowd: httpx.AsyncClient) -> None:
    for number in range(8):
        category = await a_category(crowd, f"Category {number}", await a_category(crowd, f"Root {number}"))
        deleted, made = await asyncio.gather(
            crowd.delete(f"{API}/categories/{category['id']}"),
            crowd.post(f"{API}/products", json=product_of(f"SKU-{number}") | {"category_ids": [category["id"]]}),
        )
        assert deleted.status_code == 204
        assert made.status_code in (201, 404)
        if made.status_code == 201:
            assert (await crowd.get(made.headers["Location"])).json()["category_ids"] == []


async def test_a_variant_cannot_be_left_out_while_stock_is_on_its_way(crowd: httpx.AsyncClient, database: Database) -> None:
    product = await a_product(crowd, "A", "B")
    await stock_of(crowd, "B", 1)
    await adjust(crowd, "B", "BER-1", -1, reason="sold")
    delivery = AdjustmentCreate(lines=[AdjustmentLine(sku="B", location="BER-1", delta=5)], reason="received")
    async with database.write() as session:
        await stock.adjust(session, delivery, by=uuid4())
        leaving_out = asyncio.create_task(patch(crowd, product, variants=[{"sku": "A"}]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(leaving_out), 0.2)
    answer = await leaving_out
    assert (answer.status_code, answer.json()["skus"]) == (409, ["B"])


async def test_variants_may_be_rearranged_and_left_out_while_their_stock_moves(crowd: httpx.AsyncClient, reading: ReadSession) -> None:
    skus = ["A", "B", "C"]
    product = await a_product(crowd, *skus)
    await a_location(crowd, "BER-1")
    for sku in skus:
        await stock_of(crowd, sku, 2)

    async def rearrange() -> None:
        for number in range(12):
            wanted = [[*skus], ["C", "B", "A"], ["B"], ["A", "C"]][number % 4]
            answer = await crowd.patch(
                f"{API}/products/{product['id']}", json={"variants": [{"sku": sku} for sku in wanted]}, headers={"If-Match": "*"}
            )
            assert answer.status_code in (200, 409), answer.text

    async def trade(order: list[str]) -> None:
        for _ in range(10):
            answer = await reserve(crowd, *({"sku": sku, "quantity": 2} for sku in order))
            assert answer.status_code in (201, 404, 409), answer.text
            if answer.status_code == 201:
                assert (await crowd.post(f"{API}/reservations/{answer.json()['id']}/commit")).status_code == 200
                body = {"lines": [{"sku": sku, "location": "BER-1", "delta": 2} for sku in order], "reason": "received"}
                returned = await crowd.post(f"{API}/stock/adjustments", json=body, headers={"Idempotency-Key": uuid4().hex})
                assert returned.status_code == 201, returned.text

    await asyncio.gather(rearrange(), trade(["A", "B", "C"]), trade(["C", "A"]), trade(["B", "A"]), trade(["C", "B"]))
    held = "SELECT 1 FROM stock_level level JOIN variant ON variant.id = level.variant_id WHERE variant.archived AND level.reserved > 0"
    assert await reading.fetch_all(held) == []
