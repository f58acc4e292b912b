"""Errors on the wire: problem+json with everything a client needs, and nothing that is only ours to know."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from app.core.db import Database
from app.core.problems import PROBLEMS, DatabaseUnavailable, IdempotencyInProgress, Overloaded, Problem, TooManyRequests
from app.core.process import Process
from app.services import products
from tests.operations import problem
from tests.shop import API, a_location, reserve

THE_CONTRACT = {
    "bad-request", "conflict", "database-unavailable", "deadline-exceeded", "headers-too-large", "idempotency-in-progress", "idempotency-key-reused",
    "insufficient-stock", "internal-error", "method-not-allowed", "missing-scope", "not-authenticated", "not-found", "overloaded", "payload-too-large",
    "precondition-failed", "precondition-required", "request-timeout", "too-many-requests", "unsupported-media-type", "validation-error",
}  # fmt: skip


async def get_missing(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await client.get("/nowhere", headers=headers)


class TestPages:
    def test_every_problem_of_the_contract_exists_and_no_other(self) -> None:
        assert PROBLEMS.keys() == THE_CONTRACT

    @pytest.mark.parametrize("kind", PROBLEMS.values(), ids=PROBLEMS)
    async def test_the_type_of_a_problem_is_the_address_of_a_page_about_it(self, client: httpx.AsyncClient, kind: type[Problem]) -> None:
        page = await client.get(f"/problems/{kind.name}")
        assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert f"<h1>{kind.title}</h1>" in page.text
        assert "How to mend it" in page.text
        assert f"Status {kind.status}" in page.text

    @pytest.mark.parametrize("kind", PROBLEMS.values(), ids=PROBLEMS)
    def test_a_page_promises_retry_after_exactly_where_it_is_sent(self, kind: type[Problem]) -> None:
        sent = {Overloaded("x"), DatabaseUnavailable(), TooManyRequests("x", retry_after_seconds=3), IdempotencyInProgress()}
        assert ("`Retry-After`" in kind.how_to_mend) == any(isinstance(one, kind) and int(one.headers["Retry-After"]) > 0 for one in sent)

    @pytest.mark.parametrize("name", ["nonsense", "%3Cscript%3E", "%00"])
    async def test_a_page_that_is_not_there_is_a_problem_itself(self, client: httpx.AsyncClient, name: str) -> None:
        problem(await client.get(f"/problems/{name}"), 404, "not-found")


class TestShape:
    async def test_a_problem_has_exactly_the_members_of_the_standard_and_the_request_id(self, client: httpx.AsyncClient) -> None:
        assert (await get_missing(client)).json().keys() == {"type", "title", "status", "detail", "instance", "request_id"}

    @pytest.mark.parametrize("path", ["/nowhere", "/no%20where/%C3%A4", "/%3Cscript%3E", "/%00", "/%ED%A0%80"])
    async def test_instance_is_the_path_as_a_uri_reference(self, client: httpx.AsyncClient, path: str) -> None:
        body = problem(await client.get(path), 404, "not-found")
        assert httpx.URL(body["instance"]).path == httpx.URL(path.replace("%ED%A0%80", "%EF%BF%BD" * 3)).path
        assert body["instance"].isascii()
        assert not set(body["instance"]) & set('<>" \x00')

    async def test_instance_does_not_repeat_the_query_which_may_hold_anything(self, client: httpx.AsyncClient) -> None:
        assert "secret" not in (await client.get("/nowhere?token=secret")).text

    async def test_a_pointer_leads_to_the_value_even_through_odd_names(self, admin: httpx.AsyncClient) -> None:
        body = {"name": "Shirt", "a/b~c d": 1, "variants": [{"sku": "A"}, {"sku": "B", "prices": [{"amount": -1, "currency": "EUR"}]}]}
        errors = problem(await admin.post(f"{API}/products", json=body), 422, "validation-error")["errors"]
        assert [(error["in"], error["pointer"]) for error in errors] == [
            ("body", "#/variants/1/prices/0/amount"),
            ("body", "#/a~1b~0c%20d"),
        ]

    async def test_a_pointer_to_a_bad_key_ends_at_the_key(self, admin: httpx.AsyncClient) -> None:
        answer = await admin.post(f"{API}/products", json={"name": "Shirt", "attributes": {"": 1}, "variants": [{"sku": "A"}]})
        assert problem(answer, 422, "validation-error")["errors"][0]["pointer"] == "#/attributes/"

    async def test_at_most_a_hundred_errors_are_listed(self, admin: httpx.AsyncClient) -> None:
        body = {"name": "Shirt", "variants": [{"sku": "A"}], "tags": list(range(50)), **{f"no-{number}": 1 for number in range(200)}}
        found = problem(await admin.post(f"{API}/products", json=body), 422, "validation-error")
        assert len(found["errors"]) == 100


class TestRequests:
    @pytest.mark.parametrize("path", ["/", "/nowhere", f"{API}/nowhere", f"{API}/products/", f"{API}//products", "/api/v2/products"])
    async def test_an_unknown_address_is_404(self, admin: httpx.AsyncClient, path: str) -> None:
        problem(await admin.get(path), 404, "not-found")

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PUT", f"{API}/products", "GET, POST"),
            ("POST", f"{API}/products/0", "DELETE, GET, PATCH"),
            ("DELETE", f"{API}/stock/adjustments", "POST"),
            ("GET", f"{API}/reservations/0/commit", "POST"),
            ("POST", "/healthz", "GET"),
            ("OPTIONS", f"{API}/stock", "GET"),
        ],
    )
    async def test_a_wrong_method_is_405_and_told_all_that_are_possible(
        self, admin: httpx.AsyncClient, method: str, path: str, allowed: str
    ) -> None:
        answer = await admin.request(method, path)
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["Allow"] == allowed

    async def test_an_idempotency_key_may_have_255_characters_of_any_visible_kind(self, admin: httpx.AsyncClient) -> None:
        problem(await reserve(admin, {"sku": "A", "quantity": 1}, key='~!"' * 85), 404, "not-found")

    @pytest.mark.parametrize(
        "query",
        ["limit=0", "limit=101", "limit=x", "limit=1e1", "limit=" + "9" * 5000, "limit=%00", "status=%ED%A0%80", "tag=%00", "tag=" + "x" * 65, "category=%00",
         "updated_since=yesterday", "updated_since=99999-01-01T00:00:00Z", "updated_since=1e400", "updated_since=0.5", "updated_since=2026-11-02"],
    )  # fmt: skip
    async def test_a_bad_value_in_the_query_is_422_and_named(self, viewer: httpx.AsyncClient, query: str) -> None:
        (error,) = problem(await viewer.get(f"{API}/products?{query}"), 422, "validation-error")["errors"]
        assert (error["in"], error["pointer"]) == ("query", "#/" + query.partition("=")[0])

    @pytest.mark.parametrize("query", ["limitt=1", "limit=1&limit=1", "limit=2&statsu=draft", "limit=1&=2"])
    async def test_a_parameter_that_is_not_there_or_comes_twice_is_422_and_named(self, viewer: httpx.AsyncClient, query: str) -> None:
        (error,) = problem(await viewer.get(f"{API}/products?{query}"), 422, "validation-error")["errors"]
        assert error["in"] == "query"
        assert error["pointer"] in ("#/limitt", "#/limit", "#/statsu", "#/")

    async def test_one_that_may_repeat_may(self, viewer: httpx.AsyncClient) -> None:
        assert (await viewer.get(f"{API}/stock?sku=A&sku=B")).status_code == 200

    @pytest.mark.parametrize("path", ["/products", "/variants/A", "/stock", "/users/me"])
    async def test_a_newline_behind_an_address_is_another_address(self, admin: httpx.AsyncClient, path: str) -> None:
        problem(await admin.get(f"{API}{path}%0a"), 404, "not-found")

    @pytest.mark.parametrize("text", ["%00", "%ED%A0%80", "1" * 5000, "-1", "null", "..;x", "%F0%9F%92%A9"])
    async def test_a_bad_value_in_the_path_is_422_and_named(self, viewer: httpx.AsyncClient, text: str) -> None:
        (error,) = problem(await viewer.get(f"{API}/products/{text}"), 422, "validation-error")["errors"]
        assert (error["in"], error["pointer"]) == ("path", "#/product_id")

    @pytest.mark.parametrize("sku", ["%00", "%ED%A0%80", "x" * 65, "%20", "%F0%9F%92%A9"])
    async def test_a_sku_that_cannot_be_one_is_422(self, viewer: httpx.AsyncClient, sku: str) -> None:
        problem(await viewer.get(f"{API}/variants/{sku}"), 422, "validation-error")


class TestRequestIds:
    @pytest.mark.parametrize("given", ["01890a5d-ac96-774b-bcce-b302099a8057", "A.b_c-1234", "x" * 8, "x" * 128])
    async def test_a_well_formed_one_is_taken_and_returned(self, client: httpx.AsyncClient, given: str) -> None:
        answer = await get_missing(client, **{"X-Request-ID": given})
        assert answer.headers.get_list("X-Request-ID") == [given]
        assert answer.json()["request_id"] == given

    @pytest.mark.parametrize(
        "given", ["", "short", "x" * 129, "x" * 60_000, "with space here", "<script>alert(1)</script>", "äöüäöüäöü", "12345678\x00"]
    )
    async def test_a_malformed_one_is_replaced_and_never_repeated(self, client: httpx.AsyncClient, given: str) -> None:
        answer = await client.get("/nowhere", headers=[(b"X-Request-ID", given.encode())])
        assert len(answer.headers["X-Request-ID"]) == 32
        assert answer.headers["X-Request-ID"].isalnum()

    async def test_each_request_without_one_gets_its_own(self, client: httpx.AsyncClient) -> None:
        assert len({(await client.get("/livez")).headers["X-Request-ID"] for _ in range(20)}) == 20

    async def test_requests_at_once_keep_theirs_apart(self, client: httpx.AsyncClient) -> None:
        given = [f"request-{number}" for number in range(50)]
        answers = await asyncio.gather(*(get_missing(client, **{"X-Request-ID": request_id}) for request_id in given))
        assert [answer.json()["request_id"] for answer in answers] == given


class TestFaultsOfOurs:
    SECRETS = 'INSERT INTO app_user failed in /srv/app/secret.py: password "hunter2"'

    @pytest.fixture
    def broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A product cannot be read, for a reason that is nobody's business."""

        async def fail(*_: object) -> None:
            raise RuntimeError(self.SECRETS)

        monkeypatch.setattr(products, "get_product", fail)

    @pytest.mark.usefixtures("broken")
    async def test_a_fault_of_ours_is_500_with_the_request_id_and_nothing_else(self, viewer: httpx.AsyncClient) -> None:
        path = f"{API}/products/{uuid4()}"
        answer = await viewer.get(path, headers={"X-Request-ID": "find-me-in-the-log"})
        assert problem(answer, 500, "internal-error") == {
            "type": "/problems/internal-error",
            "title": "Internal error",
            "status": 500,
            "detail": PROBLEMS["internal-error"].example,
            "instance": path,
            "request_id": "find-me-in-the-log",
        }
        assert not set(answer.headers) - {"content-type", "content-length", "x-request-id", "vary"}

    @pytest.mark.usefixtures("broken")
    async def test_the_service_goes_on_after_it(self, viewer: httpx.AsyncClient) -> None:
        await viewer.get(f"{API}/products/{uuid4()}")
        assert (await viewer.get(f"{API}/products")).status_code == 200

    async def test_a_fault_of_ours_leaves_nothing_half_written(
        self, admin: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create_product = products.create_product

        async def create_and_fail(*arguments: Any) -> None:
            await create_product(*arguments)
            raise RuntimeError(self.SECRETS)

        monkeypatch.setattr(products, "create_product", create_and_fail)
        problem(await admin.post(f"{API}/products", json={"name": "Shirt", "variants": [{"sku": "A"}]}), 500, "internal-error")
        assert await database.read().fetch_all("SELECT FROM product") == []


class TestTheDatabase:
    """What is not our fault is 503 or 504, says when to come back, and does not say what is behind it."""

    @pytest.fixture
    def with_database(self, app: FastAPI, process: Process, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        """Gives the application another database for a while: same data, another address or other limits."""

        @asynccontextmanager
        async def use(url: str = process.database.url, pool_size: int = 2, **limits: float) -> AsyncIterator[Database]:
            database = Database(url, settings.model_copy(update=limits), pool_size=pool_size)
            with monkeypatch.context() as patch:
                patch.setitem(app.state._state, "process", replace(process, database=database))
                yield database
            await database.close()

        return use

    async def test_an_exhausted_pool_is_overloaded_after_the_pool_timeout(
        self, admin: httpx.AsyncClient, with_database: Callable[..., Any]
    ) -> None:
        async with with_database(pool_size=1, pool_timeout_seconds=0.05) as database, database.write() as session:
            await session.fetch_all("SELECT 1")
            for answer in (await admin.get(f"{API}/products"), await admin.post(f"{API}/categories", json={"name": "Shirts"})):
                problem(answer, 503, "overloaded")
                assert answer.headers["Retry-After"] == "1"
        assert (await admin.get(f"{API}/products")).status_code == 200

    @pytest.mark.parametrize(
        ("limits", "status", "name"),
        [
            ({"lock_timeout_seconds": 0.05}, 503, "overloaded"),
            ({"statement_timeout_seconds": 0.05}, 504, "deadline-exceeded"),
        ],
    )
    async def test_waiting_for_a_lock_ends(
        self,
        admin: httpx.AsyncClient,
        database: Database,
        with_database: Callable[..., Any],
        limits: dict[str, float],
        status: int,
        name: str,
    ) -> None:
        place = await a_location(admin, "BER-1")
        async with database.write() as holder:
            await holder.fetch_all("SELECT FROM location FOR UPDATE")
            async with with_database(**limits):
                answer = await admin.patch(f"{API}/locations/{place['id']}", json={"name": "Berlin"})
        problem(answer, status, name)
        assert ("Retry-After" in answer.headers) == (status == 503)
        assert (await admin.get(f"{API}/locations/{place['id']}")).json()["name"] != "Berlin"

    @pytest.mark.parametrize(
        "url", ["postgresql://stockroom:hunter2@127.0.0.1:1/stockroom", "postgresql://stockroom:hunter2@/stockroom?host=/nowhere"]
    )
    async def test_an_unreachable_database_is_unavailable(
        self, admin: httpx.AsyncClient, with_database: Callable[..., Any], url: str
    ) -> None:
        async with with_database(url):
            for answer in (await admin.get(f"{API}/products"), await admin.post(f"{API}/categories", json={"name": "Shirts"})):
                problem(answer, 503, "database-unavailable")
                assert answer.headers["Retry-After"] == "2"
                assert not any(word in answer.text for word in ("hunter2", "127.0.0.1", "nowhere", "refused"))

    async def test_a_connection_lost_in_the_middle_of_a_write_is_unavailable_and_undoes_it(
        self, admin: httpx.AsyncClient, database: Database, server_urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create_product = products.create_product

        async def create_and_lose(session: Any, *arguments: Any) -> Any:
            made = await create_product(session, *arguments)
            connection = await session.driver_connection()
            async with await psycopg.AsyncConnection.connect(server_urls[0], autocommit=True) as operator:
                await operator.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
            return made

        monkeypatch.setattr(products, "create_product", create_and_lose)
        answer = await admin.post(f"{API}/products", json={"name": "Shirt", "variants": [{"sku": "A"}]})
        problem(answer, 503, "database-unavailable")
        assert answer.headers["Retry-After"] == "2"
        assert await database.read().fetch_all("SELECT FROM product") == []

    async def test_a_login_too_says_that_the_database_is_away(self, client: httpx.AsyncClient, with_database: Callable[..., Any]) -> None:
        async with with_database("postgresql://stockroom:hunter2@127.0.0.1:1/stockroom"):
            answer = await client.post(f"{API}/auth/login", data={"username": "eva@example.com", "password": "a long enough password"})
        problem(answer, 503, "database-unavailable")
