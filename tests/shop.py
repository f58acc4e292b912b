"""A small shop for tests: makes what a test needs through the API, in the business's words."""

from typing import Any
from uuid import uuid4

import httpx

from app.core.db import ReadSession

API = "/api/v1"

_MISFILED = """
WITH RECURSIVE line AS (
    SELECT product_id, category_id, true AS direct FROM product_category WHERE direct
    UNION SELECT line.product_id, category.parent_id, false FROM line JOIN category ON category.id = line.category_id WHERE category.parent_id IS NOT NULL
), wanted AS (
    SELECT line.product_id, line.category_id, bool_or(line.direct), product.status
    FROM line JOIN product ON product.id = line.product_id GROUP BY line.product_id, line.category_id, product.status
), filed AS (
    SELECT product_id, category_id, direct, status FROM product_category
)
(SELECT * FROM wanted EXCEPT SELECT * FROM filed) UNION ALL (SELECT * FROM filed EXCEPT SELECT * FROM wanted)
"""


def a_variant(sku: str, **fields: Any) -> dict[str, Any]:
    """A variant's body."""
    return {"sku": sku, "options": {"Size": sku}, "prices": [{"amount": 4900, "currency": "EUR"}], **fields}


async def a_product(client: httpx.AsyncClient, *skus: str, **fields: Any) -> dict[str, Any]:
    """A product that is on sale, with a variant for each SKU."""
    body = {
        "name": f"Product {uuid4().hex[:8]}",
        "status": "active",
        "variants": [a_variant(sku) for sku in skus or [f"SKU-{uuid4().hex[:8]}"]],
        **fields,
    }
    return _made(await client.post(f"{API}/products", json=body))


async def patch(client: httpx.AsyncClient, product: dict[str, Any], **changes: Any) -> httpx.Response:
    """Change a product as it was read."""
    return await client.patch(f"{API}/products/{product['id']}", json=changes, headers={"If-Match": f'"{product["version"]}"'})


async def a_category(client: httpx.AsyncClient, name: str, parent: dict[str, Any] | None = None) -> dict[str, Any]:
    """A category, below another one or at the root."""
    return _made(await client.post(f"{API}/categories", json={"name": name, "parent_id": parent and parent["id"]}))


async def a_location(client: httpx.AsyncClient, code: str, **fields: Any) -> dict[str, Any]:
    """A place for stock."""
    return _made(await client.post(f"{API}/locations", json={"code": code, "name": f"Warehouse {code}", **fields}))


async def adjust(
    client: httpx.AsyncClient, sku: str, location: str, delta: int, *, key: str | None = None, reason: str = "received"
) -> httpx.Response:
    """One line of stock that comes or goes."""
    body = {"lines": [{"sku": sku, "location": location, "delta": delta}], "reason": reason}
    return await client.post(f"{API}/stock/adjustments", json=body, headers={"Idempotency-Key": key or uuid4().hex})


async def stock_of(client: httpx.AsyncClient, sku: str, units: int, location: str = "BER-1") -> None:
    """That many units of a SKU at a location, both made when they are not there yet."""
    if (await client.get(f"{API}/variants/{sku}")).status_code == httpx.codes.NOT_FOUND:
        await a_product(client, sku)
    if location not in {item["code"] for item in (await client.get(f"{API}/locations", params={"limit": 100})).json()["items"]}:
        await a_location(client, location)
    _made(await adjust(client, sku, location, units))


async def reserve(client: httpx.AsyncClient, *lines: dict[str, Any], key: str | None = None, **fields: Any) -> httpx.Response:
    """Ask to hold stock."""
    return await client.post(f"{API}/reservations", json={"lines": list(lines), **fields}, headers={"Idempotency-Key": key or uuid4().hex})


async def level(client: httpx.AsyncClient, sku: str, location: str = "BER-1") -> tuple[int, int]:
    """On hand and reserved."""
    (item,) = (await client.get(f"{API}/stock", params={"sku": sku, "location": location})).json()["items"]
    return item["on_hand"], item["reserved"]


async def pages(client: httpx.AsyncClient, path: str, **params: Any) -> list[list[dict[str, Any]]]:
    """Every page of a list, by following `next_cursor` to its end."""
    found: list[list[dict[str, Any]]] = []
    cursor = None
    while cursor is not None or not found:
        answer = await client.get(f"{API}{path}", params=params | ({} if cursor is None else {"cursor": cursor}))
        assert answer.status_code == httpx.codes.OK, answer.text
        found.append(answer.json()["items"])
        cursor = answer.json()["next_cursor"]
    return found


async def misfiled(session: ReadSession) -> list[Any]:
    """Rows of the lists by category that are missing, wrong or too many, compared with what the tree and the products say."""
    return await session.fetch_all(_MISFILED)


def _made(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == httpx.codes.CREATED, answer.text
    made: dict[str, Any] = answer.json()
    return made
