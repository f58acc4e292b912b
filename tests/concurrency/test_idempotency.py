"""One effect for a key, whatever happens between the request and its answer; the same for every operation that takes an `Idempotency-Key`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from app.core.db import Database, ReadSession, WriteSession
from app.core.process import Process
from app.services import idempotency, stock
from tests.operations import BODIES, OPERATIONS, Operation, Values, any_problem, ask, problem, stocked
from tests.shop import API, adjust

CONNECTIONS = 16
ONCE = {
    # How many lines each of them adds to the ledger.
    "create_adjustment": 1,
    "create_reservation": 1,
    "commit_reservation": 1,
    "release_reservation": 1,
    "extend_reservation": 0,
}


@pytest.fixture(autouse=True)
async def the_books_agree_afterwards(reading: ReadSession):
    yield
    assert await stock.reconcile(reading) == []


@pytest.fixture
async def values(admin: httpx.AsyncClient, process: Process) -> Values:
    return await stocked(admin, process)


@pytest.fixture
async def with_database(app: FastAPI, process: Process, settings: Settings) -> Callable[..., AbstractAsyncContextManager[Database]]:
    """Gives the application the same database for a while, with another pool or other limits."""

    @asynccontextmanager
    async def use(pool_size: int = 2, **limits: float) -> AsyncIterator[Database]:
        database = Database(process.database.url, settings.model_copy(update=limits), pool_size=pool_size)
        app.state.process = replace(process, database=database)
        try:
            yield database
        finally:
            app.state.process = process
            await database.close()

    return use


@dataclass(frozen=True)
class Tried:
    """One request with its key, to be sent any number of times."""

    client: httpx.AsyncClient
    operation: Operation
    values: Values
    reading: ReadSession
    key: str
    body: Any

    async def send(self, client: httpx.AsyncClient | None = None, body: Any = None) -> httpx.Response:
        return await ask(client or self.client, self.operation, self.values, body=body or self.body, Idempotency_Key=self.key)

    async def effects(self) -> int:
        """Lines of the ledger, and answers that are kept."""
        rows = await self.reading.fetch_all("SELECT (SELECT count(*) FROM stock_movement) + (SELECT count(*) FROM idempotency_key)")
        return int(rows[0][0])


@pytest.fixture(params=ONCE)
def tried(request: pytest.FixtureRequest, admin: httpx.AsyncClient, values: Values, reading: ReadSession) -> Tried:
    operation = OPERATIONS[request.param]
    return Tried(admin, operation, values, reading, uuid4().hex, BODIES[operation.name](values) if operation.schema else None)


def same(one: httpx.Response, other: httpx.Response) -> bool:
    """Whether two answers are the same but for the request's id."""
    first, second = ({name: value for name, value in answer.headers.items() if name != "x-request-id"} for answer in (one, other))
    return (one.status_code, first, one.content) == (other.status_code, second, other.content)


def test_these_are_all_operations_that_take_a_key() -> None:
    assert ONCE.keys() == {operation.name for operation in OPERATIONS.values() if "Idempotency-Key" in operation.parameters}


class TestReplay:
    async def test_it_is_the_first_answer_in_status_headers_and_body_also_when_the_same_would_now_be_refused(self, tried: Tried) -> None:
        first = await tried.send()
        assert first.is_success, first.text
        for action in ("commit", "release"):
            for reservation_id in {tried.values["reservation_id"], first.json()["id"]}:
                await tried.client.post(f"{API}/reservations/{reservation_id}/{action}")
        await adjust(tried.client, "A", "BER-1", -90, reason="damaged")
        (place,) = [item for item in (await tried.client.get(f"{API}/locations")).json()["items"] if item["code"] == "BER-1"]
        await tried.client.patch(f"{API}/locations/{place['id']}", json={"active": False})
        for product in (await tried.client.get(f"{API}/products")).json()["items"]:
            await tried.client.delete(f"{API}/products/{product['id']}")
        before = await tried.effects()
        again = await tried.send()
        assert same(again, first)
        assert again.headers["X-Request-ID"] != first.headers["X-Request-ID"]
        assert await tried.effects() == before

    async def test_another_body_or_another_user_does_not_get_it(
        self, tried: Tried, client: httpx.AsyncClient, token_for: Callable[..., str]
    ) -> None:
        first = await tried.send()
        answer = await tried.send(body=b'{"lines": []}' if tried.body is None else {**tried.body, **_slightly_different(tried.body)})
        problem(answer, 422, "idempotency-key-reused")
        client.headers["Authorization"] = f"Bearer {token_for('stock')}"
        others = await tried.send(client)
        assert not same(others, first)
        # Theirs was a request of its own: done, or refused because the reservation has ended.
        assert others.is_success or problem(others, 409, "conflict")
        if others.is_success:
            assert same(await tried.send(client), others)
        assert same(await tried.send(), first)

    async def test_another_spelling_of_the_address_has_no_effect_of_its_own(self, tried: Tried) -> None:
        await tried.send()
        before = await tried.effects()
        spelt = {"reservation_id": tried.values["reservation_id"].upper()}
        if "{reservation_id}" in tried.operation.path:
            answer = await ask(tried.client, tried.operation, tried.values | spelt, body=tried.body, Idempotency_Key=tried.key)
            problem(answer, 422, "idempotency-key-reused")
        answer = await tried.client.post(tried.operation.address(tried.values) + "%0a", headers={"Idempotency-Key": tried.key})
        problem(answer, 404, "not-found")
        assert await tried.effects() == before

    async def test_a_token_that_may_no_longer_do_it_does_not_get_it_either(
        self, tried: Tried, client: httpx.AsyncClient, process: Process, token_for: Callable[..., str]
    ) -> None:
        await tried.send()
        user_id = process.tokens.verify(tried.client.headers["Authorization"].removeprefix("Bearer ")).user_id
        client.headers["Authorization"] = f"Bearer {token_for('viewer', user_id=user_id)}"
        problem(await tried.send(client), 403, "missing-scope")


class TestAtOnce:
    async def test_fifty_of_the_same_have_one_effect_and_one_answer(
        self, tried: Tried, with_database: Callable[..., AbstractAsyncContextManager[Database]]
    ) -> None:
        before = await tried.effects()
        async with with_database(pool_size=CONNECTIONS):
            answers = await asyncio.gather(*(tried.send() for _ in range(50)))
        first = await tried.send()
        for answer in answers:
            if not same(answer, first):
                problem(answer, 409, "idempotency-in-progress")
                assert answer.headers["Retry-After"] == "1"
        assert any(same(answer, first) for answer in answers)
        assert await tried.effects() == before + 1 + ONCE[tried.operation.name]

    async def test_one_who_comes_while_it_is_running_is_told_at_once_and_waits_for_nobody(
        self, tried: Tried, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep, running, go_on = idempotency.keep, asyncio.Event(), asyncio.Event()

        async def keep_when_told(*arguments: Any) -> None:
            running.set()
            await go_on.wait()
            await keep(*arguments)

        monkeypatch.setattr(idempotency, "keep", keep_when_told)
        first = asyncio.create_task(tried.send())
        await running.wait()
        async with asyncio.timeout(1):
            problem(await tried.send(), 409, "idempotency-in-progress")
        go_on.set()
        assert (await first).is_success
        assert same(await tried.send(), await first)

    async def test_one_who_looked_just_before_the_answer_was_kept_has_no_effect_and_is_not_refused_for_good(
        self, tried: Tried, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = await tried.send()
        before, claim, looks = await tried.effects(), idempotency.claim, 0

        async def look_too_early(session: WriteSession, request: idempotency.Request) -> idempotency.Answer | None:
            nonlocal looks
            looks += 1
            return None if looks == 1 else await claim(session, request)

        monkeypatch.setattr(idempotency, "claim", look_too_early)
        problem(await tried.send(), 409, "idempotency-in-progress")
        assert await tried.effects() == before
        assert same(await tried.send(), first)


class TestFailures:
    """Whatever a request fails with, its key is free, and what it had begun is undone."""

    async def test_after_a_fault_of_ours(self, tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
        async def fail(*_: object) -> None:
            raise RuntimeError

        before = await tried.effects()
        with monkeypatch.context() as patch:
            patch.setattr(idempotency, "keep", fail)
            problem(await tried.send(), 500, "internal-error")
        await self._succeeds_once(tried, before)

    async def test_after_a_connection_that_broke_behind_the_effect(
        self, tried: Tried, server_urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep = idempotency.keep

        async def keep_and_lose(session: WriteSession, *arguments: Any) -> None:
            await keep(session, *arguments)
            connection = await session.driver_connection()
            async with await psycopg.AsyncConnection.connect(server_urls[0], autocommit=True) as operator:
                await operator.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])

        before = await tried.effects()
        with monkeypatch.context() as patch:
            patch.setattr(idempotency, "keep", keep_and_lose)
            problem(await tried.send(), 503, "database-unavailable")
        await self._succeeds_once(tried, before)

    @pytest.mark.parametrize(
        ("limits", "status"), [({"lock_timeout_seconds": 0.05}, 503), ({"statement_timeout_seconds": 0.05}, 504)], ids=["lock", "statement"]
    )
    async def test_after_waiting_too_long_for_others(
        self,
        tried: Tried,
        database: Database,
        with_database: Callable[..., AbstractAsyncContextManager[Database]],
        limits: dict[str, float],
        status: int,
    ) -> None:
        before = await tried.effects()
        async with database.write() as holder, with_database(**limits):
            await holder.fetch_all("SELECT FROM stock_level FOR UPDATE")
            await holder.fetch_all("SELECT FROM reservation FOR UPDATE")
            assert any_problem(await tried.send())["status"] == status
        await self._succeeds_once(tried, before)

    async def test_after_finding_no_connection_free(
        self, tried: Tried, with_database: Callable[..., AbstractAsyncContextManager[Database]]
    ) -> None:
        before = await tried.effects()
        async with with_database(pool_size=1, pool_timeout_seconds=0.05) as database, database.write() as holder:
            await holder.driver_connection()
            assert problem(await tried.send(), 503, "overloaded")
        await self._succeeds_once(tried, before)

    async def test_after_a_refusal(self, tried: Tried, database: Database) -> None:
        before = await tried.effects()
        async with database.write() as session:
            await session.fetch_all("UPDATE variant SET sku = 'Z' WHERE sku = 'A'")
            await session.fetch_all("UPDATE reservation SET status = 'expired'")
        assert any_problem(await tried.send())["status"] in (404, 409)
        async with database.write() as session:
            await session.fetch_all("UPDATE variant SET sku = 'A' WHERE sku = 'Z'")
            await session.fetch_all("UPDATE reservation SET status = 'active'")
        await self._succeeds_once(tried, before)

    async def test_but_not_after_an_answer_that_was_lost_behind_the_commit(self, tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = WriteSession.commit

        async def commit_and_lose(session: WriteSession) -> None:
            await commit(session)
            raise psycopg.OperationalError

        before = await tried.effects()
        with monkeypatch.context() as patch:
            patch.setattr(WriteSession, "commit", commit_and_lose)
            problem(await tried.send(), 503, "database-unavailable")
        assert await tried.effects() == before + 1 + ONCE[tried.operation.name]
        assert (await tried.send()).is_success
        assert await tried.effects() == before + 1 + ONCE[tried.operation.name]

    async def test_nor_does_a_client_that_goes_away_leave_half_of_it(self, tried: Tried) -> None:
        before = await tried.effects()
        for step in range(12):
            task = asyncio.create_task(tried.send())
            await asyncio.sleep(0.001 * step)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert await tried.effects() in (before, before + 1 + ONCE[tried.operation.name])
        assert (await tried.send()).is_success
        assert await tried.effects() == before + 1 + ONCE[tried.operation.name]

    async def _succeeds_once(self, tried: Tried, before: int) -> None:
        assert await tried.effects() == before
        first = await tried.send()
        assert first.is_success, first.text
        assert same(await tried.send(), first)
        assert await tried.effects() == before + 1 + ONCE[tried.operation.name]


def _slightly_different(body: dict[str, Any]) -> dict[str, Any]:
    return {"expires_in_seconds": 61} if "expires_in_seconds" in body else {"reason": "returned"}
