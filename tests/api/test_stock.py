"""Stock through the API: adjustments, levels, the ledger, and whether the books agree."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from app.core.db import Database, ReadSession
from app.services.stock import Discrepancy, reconcile
from tests.shop import API, a_location, a_product, adjust, level, pages, patch, reserve, stock_of


async def adjust_lines(
    client: httpx.AsyncClient, *lines: tuple[str, str, int], key: str | None = None, reason: str = "received", **fields: Any
) -> httpx.Response:
    body = {"lines": [{"sku": sku, "location": code, "delta": delta} for sku, code, delta in lines], "reason": reason, **fields}
    return await client.post(f"{API}/stock/adjustments", json=body, headers={"Idempotency-Key": key or uuid4().hex})


async def movements(client: httpx.AsyncClient, **filters: Any) -> list[dict[str, Any]]:
    return [item for page in await pages(client, "/stock/movements", **filters) for item in page]


@pytest.fixture
async def shop(admin: httpx.AsyncClient) -> None:
    """Two products at two places, without stock."""
    await a_product(admin, "A", "B")
    for code in ("BER-1", "HAM-1"):
        await a_location(admin, code)


@pytest.mark.usefixtures("shop")
class TestAdjustments:
    async def test_an_adjustment_changes_levels_answers_them_and_is_in_the_ledger(self, admin: httpx.AsyncClient) -> None:
        answer = await adjust_lines(admin, ("B", "BER-1", 3), ("A", "HAM-1", 10), ("A", "BER-1", 5), reference="delivery 7")
        assert answer.status_code == 201
        body = answer.json()
        assert UUID(body["id"]).version == 7
        assert [(line["sku"], line["location"], line["on_hand"], line["reserved"], line["available"]) for line in body["lines"]] == [
            ("A", "BER-1", 5, 0, 5),
            ("A", "HAM-1", 10, 0, 10),
            ("B", "BER-1", 3, 0, 3),
        ]
        assert [item for page in await pages(admin, "/stock", limit=2) for item in page] == sorted(
            body["lines"], key=lambda line: (line["sku"], line["location"])
        )
        found = await movements(admin)
        assert {(item["sku"], item["location"], item["delta_on_hand"], item["delta_reserved"]) for item in found} == {
            ("B", "BER-1", 3, 0),
            ("A", "HAM-1", 10, 0),
            ("A", "BER-1", 5, 0),
        }
        assert {(item["reason"], item["reference"], item["cause_id"]) for item in found} == {("received", "delivery 7", body["id"])}

    async def test_every_line_or_none_and_every_line_below_zero_is_named(self, admin: httpx.AsyncClient) -> None:
        await adjust_lines(admin, ("A", "BER-1", 2), ("B", "BER-1", 1))
        answer = await adjust_lines(admin, ("A", "BER-1", -3), ("A", "HAM-1", 4), ("B", "BER-1", -5), reason="damaged")
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/insufficient-stock")
        assert sorted(answer.json()["short"], key=lambda line: str(line["sku"])) == [
            {"sku": "A", "location": "BER-1", "requested": 3, "available": 2},
            {"sku": "B", "location": "BER-1", "requested": 5, "available": 1},
        ]
        assert (await level(admin, "A"), await level(admin, "B")) == ((2, 0), (1, 0))
        assert len(await movements(admin)) == 2

    async def test_lines_for_the_same_level_are_summed(self, admin: httpx.AsyncClient) -> None:
        answer = await adjust_lines(admin, ("A", "BER-1", -4), ("A", "BER-1", 10), ("A", "BER-1", -5))
        assert answer.status_code == 201
        assert await level(admin, "A") == (1, 0)
        assert [item["delta_on_hand"] for item in await movements(admin)] == [1]

    async def test_lines_that_cancel_out_move_nothing_but_the_level_is_answered(self, admin: httpx.AsyncClient) -> None:
        answer = await adjust_lines(admin, ("A", "BER-1", 4), ("A", "BER-1", -4), ("B", "BER-1", 1))
        assert [(line["sku"], line["on_hand"]) for line in answer.json()["lines"]] == [("A", 0), ("B", 1)]
        assert [item["sku"] for item in await movements(admin)] == ["B"]

    async def test_all_that_is_unknown_is_named(self, admin: httpx.AsyncClient) -> None:
        answer = await adjust_lines(admin, ("NO-1", "BER-1", 1), ("A", "MOON", 1), ("NO-2", "MARS", 1), ("A", "BER-1", 1))
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
        assert all(name in answer.json()["detail"] for name in ("NO-1", "NO-2", "MOON", "MARS"))
        assert await pages(admin, "/stock") == [[]]

    async def test_what_is_on_hand_may_fall_below_what_is_reserved_for_a_count_is_a_fact(self, admin: httpx.AsyncClient) -> None:
        await stock_of(admin, "A", 10)
        await reserve(admin, {"sku": "A", "quantity": 8})
        line = (await adjust_lines(admin, ("A", "BER-1", -5), reason="counted")).json()["lines"][0]
        assert (line["on_hand"], line["reserved"], line["available"]) == (5, 8, -3)
        assert (await adjust_lines(admin, ("A", "BER-1", -6), reason="counted")).json()["short"][0]["available"] == 5

    async def test_stock_may_come_back_to_what_is_archived_or_closed(self, admin: httpx.AsyncClient) -> None:
        product = (await admin.get(f"{API}/products")).json()["items"][0]
        await patch(admin, product, variants=[{"sku": "A"}])
        assert (await adjust_lines(admin, ("B", "BER-1", 1), reason="returned")).status_code == 201

    async def test_a_repeated_request_has_one_effect_and_the_first_answer(self, admin: httpx.AsyncClient) -> None:
        first, second = [await adjust_lines(admin, ("A", "BER-1", 4), key="delivery-7") for _ in range(2)]
        assert (second.status_code, second.content) == (201, first.content)
        assert await level(admin, "A") == (4, 0)
        assert (await adjust_lines(admin, ("A", "BER-1", 5), key="delivery-7")).json()["type"] == "/problems/idempotency-key-reused"
        # The key names a request to this route by this user only.
        assert (await reserve(admin, {"sku": "A", "quantity": 1}, key="delivery-7")).status_code == 201

    async def test_a_missing_key_or_a_wrong_line_is_refused(self, admin: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
        body = {"lines": [{"sku": "A", "location": "BER-1", "delta": 1}], "reason": "received"}
        assert (await admin.post(f"{API}/stock/adjustments", json=body)).json()["type"] == "/problems/bad-request"
        answer = await adjust_lines(admin, ("A", "BER-1", 1), ("A", "BER 1", 0), reason="lost")
        assert {error["pointer"] for error in answer.json()["errors"]} == {"#/lines/1/location", "#/lines/1/delta", "#/reason"}
        assert (await adjust_lines(viewer, ("A", "BER-1", 1))).status_code == 403


class TestLevels:
    async def test_levels_are_found_by_sku_and_by_location(self, admin: httpx.AsyncClient) -> None:
        for sku in ("A", "B", "C"):
            for units, code in enumerate(("BER-1", "HAM-1"), start=1):
                await stock_of(admin, sku, units, code)
        everything = (await admin.get(f"{API}/stock")).json()["items"]
        assert len(everything) == 6
        for skus, location in (
            (["A"], None),
            (["C", "A", "NOPE"], None),
            ([], "HAM-1"),
            (["A", "B"], "BER-1"),
            ([], "MOON"),
            (["A"], "MOON"),
        ):
            expected = [item for item in everything if (not skus or item["sku"] in skus) and location in (None, item["location"])]
            for limit in (1, 2, 100):
                found = await pages(
                    admin, "/stock", limit=limit, **({"sku": skus} if skus else {}), **({"location": location} if location else {})
                )
                assert [item for page in found for item in page] == expected

    async def test_the_link_header_keeps_every_sku(self, admin: httpx.AsyncClient) -> None:
        for sku in ("A", "B", "C", "D"):
            await stock_of(admin, sku, 1)
        answer = await admin.get(f"{API}/stock", params={"sku": ["A", "C", "D"], "limit": 1})
        found = answer.json()["items"]
        while "next" in answer.links:
            answer = await admin.get(answer.links["next"]["url"])
            found += answer.json()["items"]
        assert [item["sku"] for item in found] == ["A", "C", "D"]

    async def test_a_hundred_skus_may_be_asked_for_at_once(self, admin: httpx.AsyncClient) -> None:
        assert (await admin.get(f"{API}/stock", params={"sku": [f"S-{number}" for number in range(100)]})).status_code == 200
        answer = await admin.get(f"{API}/stock", params={"sku": [f"S-{number}" for number in range(101)]})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/sku")
        answer = await admin.get(f"{API}/stock", params={"sku": ["A", "not good"]})
        assert answer.json()["errors"][0]["pointer"] == "#/sku/1"


class TestLedger:
    async def test_movements_are_found_by_sku_and_by_location_oldest_first(self, admin: httpx.AsyncClient) -> None:
        for sku, code in (("A", "BER-1"), ("B", "BER-1"), ("A", "HAM-1"), ("A", "BER-1"), ("B", "HAM-1")):
            await stock_of(admin, sku, 1, code)
        everything = await movements(admin)
        assert [item["id"] for item in everything] == sorted(item["id"] for item in everything)
        assert [item["sku"] for item in everything] == ["A", "B", "A", "A", "B"]
        for filters in ({"sku": "A"}, {"location": "HAM-1"}, {"sku": "A", "location": "BER-1"}, {"sku": "NOPE"}, {"location": "MOON"}):
            expected = [item for item in everything if all(item[name] == value for name, value in filters.items())]
            for limit in (1, 2, 100):
                assert await movements(admin, limit=limit, **filters) == expected

    @pytest.mark.parametrize("change", ["UPDATE stock_movement SET delta_on_hand = 2", "DELETE FROM stock_movement"])
    async def test_what_is_written_cannot_be_changed_not_even_by_us(
        self, admin: httpx.AsyncClient, database: Database, change: str
    ) -> None:
        await stock_of(admin, "A", 1)
        before = await movements(admin)
        with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
            async with database.write() as session:
                await session.fetch_all(change)
        assert await movements(admin) == before

    async def test_who_moved_it_is_remembered(self, admin: httpx.AsyncClient, client: httpx.AsyncClient, token_for: Any) -> None:
        await stock_of(admin, "A", 1)
        user_id = uuid4()
        client.headers["Authorization"] = f"Bearer {token_for('stock', user_id=user_id)}"
        await adjust(client, "A", "BER-1", 1)
        assert (await movements(admin))[-1]["created_by"] == str(user_id)


_MOVED_BEHIND_THE_LEVEL = """
INSERT INTO stock_movement (variant_id, location_id, delta_on_hand, delta_reserved, reason, cause_id)
SELECT variant_id, location_id, -2, 1, 'correction', uuid_v7() FROM stock_level
"""

_LEVEL_FROM_NOWHERE = """
INSERT INTO stock_level (variant_id, location_id, on_hand)
SELECT level.variant_id, location.id, 1 FROM stock_level level, location WHERE location.code = 'HAM-1'
"""


class TestReconciling:
    @pytest.mark.parametrize(
        ("damage", "found"),
        [
            ("UPDATE stock_level SET on_hand = on_hand + 3", Discrepancy("A", "BER-1", 13, 10, 4, 4, 4)),
            ("UPDATE stock_level SET reserved = reserved - 1", Discrepancy("A", "BER-1", 10, 10, 3, 4, 4)),
            ("DELETE FROM stock_level", Discrepancy("A", "BER-1", 0, 10, 0, 4, 4)),
            ("UPDATE reservation_line SET quantity = 6", Discrepancy("A", "BER-1", 10, 10, 4, 4, 6)),
            ("UPDATE reservation SET status = 'released'", Discrepancy("A", "BER-1", 10, 10, 4, 4, 0)),
            (_MOVED_BEHIND_THE_LEVEL, Discrepancy("A", "BER-1", 10, 8, 4, 5, 4)),
            (_LEVEL_FROM_NOWHERE, Discrepancy("A", "HAM-1", 1, 0, 0, 0, 0)),
        ],
    )
    async def test_whatever_does_not_agree_is_found(
        self, admin: httpx.AsyncClient, database: Database, reading: ReadSession, damage: str, found: Discrepancy
    ) -> None:
        await a_location(admin, "HAM-1")
        await stock_of(admin, "A", 10)
        await reserve(admin, {"sku": "A", "quantity": 4})
        assert await reconcile(reading) == []
        async with database.write() as session:
            await session.fetch_all(damage)
        assert await reconcile(reading) == [found]
        assert str(found).startswith(f"A at {found.location}: ")

    async def test_a_discrepancy_says_what_is_off_and_nothing_else(self) -> None:
        assert str(Discrepancy("A", "BER-1", 13, 10, 4, 4, 4)) == "A at BER-1: on hand is 13, the ledger's sum is 10"
        assert str(Discrepancy("A", "BER-1", 1, 1, 3, 4, 5)) == (
            "A at BER-1: reserved is 3, the ledger's sum is 4; reserved is 3, active reservations hold 5"
        )
