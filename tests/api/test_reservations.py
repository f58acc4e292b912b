"""Reservations through the API: all lines or none, and nothing is ever sold twice."""

import asyncio
from datetime import datetime, timedelta

import httpx
import pytest

from app.core.db import Database, ReadSession
from app.services.reservations import expire_due
from app.services.stock import reconcile
from tests.shop import API, a_location, a_product, adjust, level, reserve, stock_of


@pytest.fixture(autouse=True)
async def the_books_agree_afterwards(reading: ReadSession):
    yield
    assert await reconcile(reading) == []


async def test_reserving_holds_units_and_says_where(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "SHIRT", 10)
    answer = await reserve(admin, {"sku": "SHIRT", "quantity": 3}, expires_in_seconds=600, reference="order 17")
    assert answer.status_code == 201
    body = answer.json()
    assert body["status"] == "active"
    assert body["lines"] == [{"sku": "SHIRT", "quantity": 3, "location": "BER-1"}]
    assert body["reference"] == "order 17"
    assert answer.headers["Location"] == f"{API}/reservations/{body['id']}"
    assert (
        timedelta(seconds=590)
        < datetime.fromisoformat(body["expires_at"]) - datetime.fromisoformat(body["created_at"])
        < timedelta(seconds=610)
    )
    assert (await admin.get(answer.headers["Location"])).json() == body
    assert await level(admin, "SHIRT") == (10, 3)


async def test_every_line_or_none(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 5)
    await stock_of(admin, "B", 1)
    answer = await reserve(admin, {"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 2})
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/insufficient-stock"
    assert answer.json()["short"] == [{"sku": "B", "requested": 2, "available": 1}]
    assert await level(admin, "A") == (5, 0)


async def test_all_short_lines_are_named_not_only_the_first(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 1)
    await stock_of(admin, "B", 1)
    answer = await reserve(admin, {"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 3, "location": "BER-1"})
    assert sorted(line["sku"] for line in answer.json()["short"]) == ["A", "B"]


async def test_lines_for_the_same_sku_are_summed_before_they_are_checked(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 3)
    answer = await reserve(admin, {"sku": "A", "quantity": 2}, {"sku": "A", "quantity": 2})
    assert answer.status_code == 409
    assert answer.json()["short"] == [{"sku": "A", "requested": 4, "available": 3}]


async def test_a_line_without_a_location_is_taken_whole_where_there_is_enough(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 3, "BER-1")
    await stock_of(admin, "A", 5, "HAM-1")
    assert (await reserve(admin, {"sku": "A", "quantity": 4})).json()["lines"][0]["location"] == "HAM-1"
    assert (await reserve(admin, {"sku": "A", "quantity": 4})).status_code == 409
    assert (await reserve(admin, {"sku": "A", "quantity": 3})).json()["lines"][0]["location"] == "BER-1"


async def test_a_line_with_a_location_is_taken_there_or_not_at_all(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 3, "BER-1")
    await stock_of(admin, "A", 5, "HAM-1")
    answer = await reserve(admin, {"sku": "A", "quantity": 4, "location": "BER-1"})
    assert answer.json()["short"] == [{"sku": "A", "location": "BER-1", "requested": 4, "available": 3}]


async def test_an_inactive_location_offers_nothing_and_every_answer_says_so(admin: httpx.AsyncClient) -> None:
    place = await a_location(admin, "OLD")
    await stock_of(admin, "A", 3, "OLD")
    held = (await reserve(admin, {"sku": "A", "quantity": 2})).json()

    async def available() -> list[int]:
        levels = (await admin.get(f"{API}/stock")).json()["items"] + (await admin.get(f"{API}/variants/A")).json()["availability"]
        return [level["available"] for level in levels]

    assert await available() == [1, 1]
    await admin.patch(f"{API}/locations/{place['id']}", json={"active": False})
    assert (await reserve(admin, {"sku": "A", "quantity": 1})).json()["short"] == [{"sku": "A", "requested": 1, "available": 0}]
    assert await available() == [0, 0]
    # What was counted is a fact there too, and so is a shortfall.
    assert (await adjust(admin, "A", "OLD", -2, reason="counted")).json()["lines"][0]["available"] == -1
    assert await available() == [-1, -1]
    assert (await admin.post(f"{API}/reservations/{held['id']}/release")).status_code == 200
    assert await available() == [0, 0]


async def test_what_does_not_exist_is_named_whole(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 3)
    answer = await reserve(
        admin, {"sku": "NO-1", "quantity": 1}, {"sku": "NO-2", "quantity": 1}, {"sku": "A", "quantity": 1, "location": "MOON"}
    )
    assert answer.status_code == 404
    assert all(name in answer.json()["detail"] for name in ("NO-1", "NO-2", "MOON"))


async def test_a_variant_that_never_had_stock_is_short_not_missing(admin: httpx.AsyncClient) -> None:
    await a_product(admin, "NEW")
    answer = await reserve(admin, {"sku": "NEW", "quantity": 1})
    assert answer.status_code == 409
    assert answer.json()["short"] == [{"sku": "NEW", "requested": 1, "available": 0}]


async def test_an_archived_product_cannot_be_reserved(admin: httpx.AsyncClient) -> None:
    product = await a_product(admin, "A")
    await stock_of(admin, "A", 3)
    await admin.delete(f"{API}/products/{product['id']}")
    assert (await reserve(admin, {"sku": "A", "quantity": 1})).status_code == 404


async def test_committing_takes_the_units_out(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 10)
    held = (await reserve(admin, {"sku": "A", "quantity": 4})).json()
    answer = await admin.post(f"{API}/reservations/{held['id']}/commit")
    assert (answer.status_code, answer.json()["status"]) == (200, "committed")
    assert await level(admin, "A") == (6, 0)


async def test_releasing_gives_the_units_back(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 10)
    held = (await reserve(admin, {"sku": "A", "quantity": 4})).json()
    answer = await admin.post(f"{API}/reservations/{held['id']}/release")
    assert (answer.status_code, answer.json()["status"]) == (200, "released")
    assert await level(admin, "A") == (10, 0)


@pytest.mark.parametrize("ended_by", ["commit", "release"])
@pytest.mark.parametrize("then", ["commit", "release", "extend"])
async def test_an_ended_reservation_stays_ended(admin: httpx.AsyncClient, ended_by: str, then: str) -> None:
    await stock_of(admin, "A", 10)
    held = (await reserve(admin, {"sku": "A", "quantity": 4})).json()
    await admin.post(f"{API}/reservations/{held['id']}/{ended_by}")
    before = await level(admin, "A")
    answer = await admin.post(f"{API}/reservations/{held['id']}/{then}", json={"expires_in_seconds": 60} if then == "extend" else None)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
    assert await level(admin, "A") == before


async def test_extending_counts_the_lifetime_from_now(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 10)
    held = (await reserve(admin, {"sku": "A", "quantity": 4}, expires_in_seconds=60)).json()
    answer = await admin.post(f"{API}/reservations/{held['id']}/extend", json={"expires_in_seconds": 3600})
    assert answer.status_code == 200
    assert datetime.fromisoformat(answer.json()["expires_at"]) - datetime.fromisoformat(held["expires_at"]) > timedelta(seconds=3500)


async def _wait_until_expired(admin: httpx.AsyncClient, reservation_id: str) -> None:
    async with asyncio.timeout(5):
        while (await admin.get(f"{API}/reservations/{reservation_id}")).json()["status"] != "expired":
            await asyncio.sleep(0.05)


async def test_an_expired_reservation_is_never_shown_as_active_nor_can_it_be_committed_though_nobody_swept_it(
    admin: httpx.AsyncClient,
) -> None:
    await stock_of(admin, "A", 10)
    held = (await reserve(admin, {"sku": "A", "quantity": 4}, expires_in_seconds=1)).json()
    await _wait_until_expired(admin, held["id"])
    for action, body in (("commit", None), ("release", None), ("extend", {"expires_in_seconds": 60})):
        assert (await admin.post(f"{API}/reservations/{held['id']}/{action}", json=body)).status_code == 409
    assert await level(admin, "A") == (10, 4)


async def test_the_sweeper_gives_back_what_expired_and_only_that(admin: httpx.AsyncClient, database: Database) -> None:
    await stock_of(admin, "A", 10)
    await stock_of(admin, "B", 10)
    short = [
        (await reserve(admin, {"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 1}, expires_in_seconds=1)).json() for _ in range(3)
    ]
    long = (await reserve(admin, {"sku": "A", "quantity": 1})).json()
    await _wait_until_expired(admin, short[-1]["id"])

    async def sweep() -> int:
        async with database.write() as session:
            return await expire_due(session)

    assert sum(await asyncio.gather(sweep(), sweep(), sweep())) == 3
    assert await level(admin, "A") == (10, 1)
    assert await level(admin, "B") == (10, 0)
    assert (await admin.get(f"{API}/reservations/{long['id']}")).json()["status"] == "active"
    assert await sweep() == 0


async def test_a_count_below_what_is_held_is_a_shortfall_and_a_commit_that_finds_too_little_is_refused(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 10)
    held = (await reserve(admin, {"sku": "A", "quantity": 8})).json()
    assert (await adjust(admin, "A", "BER-1", -5, reason="counted")).status_code == 201
    (item,) = (await admin.get(f"{API}/stock", params={"sku": "A"})).json()["items"]
    assert (item["on_hand"], item["reserved"], item["available"]) == (5, 8, -3)
    answer = await admin.post(f"{API}/reservations/{held['id']}/commit")
    assert answer.status_code == 409
    assert answer.json()["short"] == [{"sku": "A", "location": "BER-1", "requested": 8, "available": 5}]
    assert (await admin.post(f"{API}/reservations/{held['id']}/release")).status_code == 200


async def test_the_ledger_tells_the_whole_story(admin: httpx.AsyncClient) -> None:
    await stock_of(admin, "A", 10)
    sold = (await reserve(admin, {"sku": "A", "quantity": 4}, reference="order 1")).json()
    await admin.post(f"{API}/reservations/{sold['id']}/commit")
    items = (await admin.get(f"{API}/stock/movements", params={"sku": "A"})).json()["items"]
    assert [(item["reason"], item["delta_on_hand"], item["delta_reserved"]) for item in items] == [
        ("received", 10, 0),
        ("reserved", 0, 4),
        ("committed", -4, -4),
    ]
    assert items[1]["cause_id"] == items[2]["cause_id"] == sold["id"]
    assert items[2]["reference"] == "order 1"
