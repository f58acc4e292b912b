"""CORS: the named origins' pages may call the API and read its errors too; nobody else's may."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from app.core import draining
from app.core.config import Settings
from app.core.process import Process
from app.main import create_app
from app.services import products
from tests.shop import API

SHOP = "https://shop.example"
STRANGER = "https://evil.example"


@pytest.fixture
async def browser(app: FastAPI, process: Process, settings: Settings, admin: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that trusts one origin."""
    trusting = create_app(settings.model_copy(update={"cors_origins": (SHOP,)}))
    trusting.state.process, trusting.state.readiness = process, app.state.readiness
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(trusting), base_url="http://stockroom.test", headers=admin.headers
    ) as client:
        yield client


async def preflight(client: httpx.AsyncClient, origin: str, method: str = "PATCH", headers: str = "authorization") -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return await client.options(f"{API}/products", headers=asked)


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_a_named_origin_may_use_every_method_and_header_of_the_api(browser: httpx.AsyncClient, method: str) -> None:
    answer = await preflight(browser, SHOP, method, "authorization, content-type, idempotency-key, if-match, x-request-id")
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert method in answer.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_its_questions_close_their_connection_too_while_the_server_drains(
    browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Connection" not in (await preflight(browser, SHOP)).headers
    monkeypatch.setattr(draining, "_draining", True)
    assert (await preflight(browser, SHOP)).headers["Connection"] == "close"
    assert (await browser.get(f"{API}/products", headers={"Origin": SHOP})).headers.get_list("Connection") == ["close"]


async def test_another_origin_may_not(browser: httpx.AsyncClient) -> None:
    answer = await preflight(browser, STRANGER)
    assert answer.status_code == 400
    assert "Access-Control-Allow-Origin" not in answer.headers
    answer = await browser.get(f"{API}/products", headers={"Origin": STRANGER})
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_without_named_origins_nobody_may(admin: httpx.AsyncClient) -> None:
    assert "Access-Control-Allow-Origin" not in (await preflight(admin, SHOP)).headers
    assert "Access-Control-Allow-Origin" not in (await admin.get(f"{API}/products", headers={"Origin": SHOP})).headers


async def test_a_page_may_read_every_answer_and_its_headers_errors_included(
    browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(products, "get_product", fail)
    bodies = {"content": b"x" * 2_000_000, "headers": {"Origin": SHOP, "Content-Type": "application/json"}}
    answers = {
        200: await browser.get(f"{API}/products", headers={"Origin": SHOP}),
        401: await browser.get(f"{API}/products", headers={"Origin": SHOP, "Authorization": "Bearer x"}),
        404: await browser.get("/nowhere", headers={"Origin": SHOP}),
        405: await browser.put(f"{API}/products", headers={"Origin": SHOP}),
        413: await browser.post(f"{API}/products", **bodies),  # type: ignore[arg-type] # one mapping for two arguments
        422: await browser.get(f"{API}/products?limit=x", headers={"Origin": SHOP}),
        500: await browser.get(f"{API}/products/01890a5d-ac96-774b-bcce-b302099a8057", headers={"Origin": SHOP}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        assert "Origin" in answer.headers["Vary"]
        exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
        assert exposed == {"Allow", "ETag", "Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID"}


async def test_any_origin_may_when_the_settings_say_so(settings: Settings) -> None:
    open_to_all = create_app(settings.model_copy(update={"cors_origins": ("*",)}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(open_to_all), base_url="http://stockroom.test") as client:
        assert (await client.get("/livez", headers={"Origin": STRANGER})).headers["Access-Control-Allow-Origin"] == "*"


async def test_a_page_can_read_that_the_service_is_overloaded_and_other_clients_are_told_as_well(
    browser: httpx.AsyncClient, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.admission, "limit", 0)
    to_a_page, to_others = await browser.get(f"{API}/products", headers={"Origin": SHOP}), await browser.get(f"{API}/products")
    assert (to_a_page.status_code, to_a_page.headers["Access-Control-Allow-Origin"]) == (503, SHOP)
    assert (to_others.status_code, to_others.json()["type"]) == (503, "/problems/overloaded")
    assert {answer.headers["Vary"] for answer in (to_a_page, to_others)} == {"Origin"}


async def test_what_is_kept_by_a_cache_for_one_is_not_given_to_the_other(browser: httpx.AsyncClient) -> None:
    for origin in ({}, {"Origin": SHOP}, {"Origin": STRANGER}):
        assert (await browser.get("/problems/overloaded", headers=origin)).headers["Vary"] == "Origin"
