"""Locations through the API: where stock lies."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.shop import API, a_location, level, pages, reserve, stock_of

NOBODY = "0190c0de-0000-7000-8000-000000000001"


async def change(client: httpx.AsyncClient, location: dict[str, Any], if_match: str | None = None, **changes: Any) -> httpx.Response:
    return await client.patch(f"{API}/locations/{location['id']}", json=changes, headers={} if if_match is None else {"If-Match": if_match})


async def test_a_location_comes_back_as_it_was_sent(admin: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    body = {"code": "BER-1", "name": "Berlin „Ost“", "address": {"city": "Berlin", "lines": ["Straße 1", None]}, "active": False}
    answer = await admin.post(f"{API}/locations", json=body)
    location = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{API}/locations/{location['id']}"
    assert answer.headers["ETag"] == '"1"'
    assert {name: location[name] for name in body} == body
    again = await viewer.get(answer.headers["Location"])
    assert (again.json(), again.headers["ETag"]) == (location, '"1"')


async def test_a_code_and_a_name_are_enough(admin: httpx.AsyncClient) -> None:
    location = await a_location(admin, "BER-1")
    assert (location["address"], location["active"], location["version"]) == ({}, True, 1)


async def test_a_taken_code_is_named(admin: httpx.AsyncClient) -> None:
    await a_location(admin, "BER-1")
    answer = await admin.post(f"{API}/locations", json={"code": "BER-1", "name": "Another"})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
    assert "`BER-1`" in answer.json()["detail"]


async def test_a_change_merges_and_the_code_cannot_change(admin: httpx.AsyncClient) -> None:
    location = await a_location(admin, "BER-1", address={"city": "Berlin", "geo": {"lat": 52.5, "lon": 13.4}})
    after = (await change(admin, location, address={"city": None, "geo": {"lon": 13.5}}, active=False)).json()
    assert (after["address"], after["active"], after["name"]) == ({"geo": {"lat": 52.5, "lon": 13.5}}, False, location["name"])
    assert (after["version"], after["created_at"]) == (2, location["created_at"])
    assert (await change(admin, location, name="Renamed")).json()["address"] == after["address"]
    for wrong, pointer in (({"code": "HAM-1"}, "#/code"), ({"active": None}, "#/active"), ({"active": "no"}, "#/active"), ({}, "#")):
        answer = await change(admin, location, **wrong)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_patches_together_cannot_grow_an_address_without_end(admin: httpx.AsyncClient) -> None:
    location = await a_location(admin, "BER-1", address={f"a{number}": 1 for number in range(100)})
    answer = await change(admin, location, address={"one more": 1})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/address")


async def test_a_stale_change_is_refused_and_of_two_at_once_one_wins(admin: httpx.AsyncClient) -> None:
    location = await a_location(admin, "BER-1")
    answers = await asyncio.gather(*(change(admin, location, '"1"', name=f"Name {number}") for number in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    assert (await change(admin, location, "*", name="x")).headers["ETag"] == '"3"'


async def test_pages_of_any_size_show_every_location_exactly_once_in_order(admin: httpx.AsyncClient) -> None:
    made = [await a_location(admin, code) for code in ("Z", "A", "M", "B")]
    for limit in range(1, 6):
        assert [item for page in await pages(admin, "/locations", limit=limit) for item in page] == made


async def test_a_location_that_is_closed_keeps_its_stock_and_offers_it_again_when_it_opens(admin: httpx.AsyncClient) -> None:
    location = await a_location(admin, "BER-1")
    await stock_of(admin, "A", 5)
    await change(admin, location, active=False)
    assert await level(admin, "A") == (5, 0)
    assert (await reserve(admin, {"sku": "A", "quantity": 1})).status_code == 409
    await change(admin, location, active=True)
    assert (await reserve(admin, {"sku": "A", "quantity": 1})).status_code == 201


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_what_does_not_exist_is_not_found(admin: httpx.AsyncClient, method: str) -> None:
    body = {"name": "x"} if method == "PATCH" else None
    assert (await admin.request(method, f"{API}/locations/{NOBODY}", json=body)).status_code == 404
    assert (await admin.request(method, f"{API}/locations/BER-1", json=body)).status_code == 422


async def test_a_viewer_may_not_write(viewer: httpx.AsyncClient) -> None:
    assert (await viewer.post(f"{API}/locations", json={"code": "A", "name": "x"})).status_code == 403
    assert (await change(viewer, {"id": NOBODY}, name="x")).status_code == 403
