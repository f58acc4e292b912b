"""Requests through a PgBouncer in transaction mode, which gives each transaction, and each read, whatever server connection is free."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from app.core.config import Settings
from app.core.db import Database
from app.core.process import Process
from app.core.sizing import read_timeout_complaint
from app.services import products
from app.services.stock import reconcile
from tests.pgbouncer.bouncers import SERVER_CONNECTIONS, UNLIMITED, Bouncer
from tests.pgbouncer.conftest import Peak
from tests.shop import API, a_product, level, patch, reserve, stock_of

CLIENTS = 16
ZONE_AND_LIMITS = """
SELECT current_setting('TimeZone'), current_setting('statement_timeout'), current_setting('lock_timeout'),
       current_setting('idle_in_transaction_session_timeout')
"""


async def all_at_once(database: Database, query: str) -> list[Any]:
    return [rows[0] for rows in await asyncio.gather(*(database.read().fetch_all(query) for _ in range(CLIENTS)))]


async def test_reads_and_writes_are_answered_as_ever_with_times_in_utc(admin: httpx.AsyncClient, peak: Peak) -> None:
    made = await a_product(admin, "A", "B")
    changed = await patch(admin, made, name="Shirt")
    assert changed.status_code == 200
    answers = await asyncio.gather(*(admin.get(f"{API}/products/{made['id']}") for _ in range(CLIENTS)))
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, changed.text)}
    updated_at = changed.json()["updated_at"]
    assert updated_at.endswith("+00:00")
    assert abs(datetime.fromisoformat(updated_at) - datetime.now(UTC)) < timedelta(minutes=1)
    assert (await admin.get("/healthz")).status_code == 200
    assert 1 <= peak() <= SERVER_CONNECTIONS


async def test_sixteen_clients_after_the_last_ten_units_get_exactly_ten(admin: httpx.AsyncClient, database: Database, peak: Peak) -> None:
    await stock_of(admin, "A", 10)
    answers = await asyncio.gather(*(reserve(admin, {"sku": "A", "quantity": 1}) for _ in range(CLIENTS)))
    assert sorted(answer.status_code for answer in answers) == [201] * 10 + [409] * 6
    assert await level(admin, "A") == (10, 10)
    assert await reconcile(database.read()) == []
    assert peak() == SERVER_CONNECTIONS


async def test_a_request_sent_sixteen_times_with_one_key_is_done_once(admin: httpx.AsyncClient, database: Database) -> None:
    await stock_of(admin, "A", 10)
    key = uuid4().hex
    answers = await asyncio.gather(*(reserve(admin, {"sku": "A", "quantity": 1}, key=key) for _ in range(CLIENTS)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {(await reserve(admin, {"sku": "A", "quantity": 1}, key=key)).text} == {a.text for a in answers if a.status_code == 201}
    assert await level(admin, "A") == (10, 1)
    assert await reconcile(database.read()) == []


async def test_every_statement_is_in_utc_and_within_the_limits_and_a_transaction_leaves_none_behind(database: Database) -> None:
    for _ in range(3):
        async with database.write() as session:
            assert await session.fetch_all(ZONE_AND_LIMITS) == [("UTC", "5s", "2s", "10s")]
        assert await all_at_once(database, ZONE_AND_LIMITS) == [("UTC", "5s", "0", "0")] * CLIENTS


async def test_nothing_is_prepared_on_the_server_unless_asked_for(database: Database) -> None:
    assert await all_at_once(database, "SELECT count(*) FROM pg_prepared_statements") == [(0,)] * CLIENTS


async def test_reads_without_a_limit_are_complained_about(settings: Settings, bouncer: Bouncer, direct_url: str) -> None:
    assert read_timeout_complaint(settings) is None
    assert read_timeout_complaint(settings.around_pgbouncer()) is None
    unlimited = settings.model_copy(
        update={"database_url": SecretStr(bouncer.through(direct_url, UNLIMITED)), "statement_timeout_seconds": 3}
    )
    assert "connect_query='SET statement_timeout = 3000'" in (read_timeout_complaint(unlimited) or "")


class TestTheDeadline:
    @pytest.fixture
    def impatient(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process.settings, "request_timeout_seconds", 0.3)

        async def sleep(session: Any, *_: Any, **__: Any) -> Any:
            await session.fetch_all("SELECT pg_sleep(4) AS slept_too_long")

        monkeypatch.setattr(products, "list_products", sleep)

    @pytest.mark.usefixtures("impatient")
    async def test_a_query_that_takes_too_long_is_ended_on_the_server(
        self, admin: httpx.AsyncClient, process: Process, direct_url: str
    ) -> None:
        started = asyncio.get_running_loop().time()
        answer = await admin.get(f"{API}/products")
        assert (answer.status_code, answer.json()["type"]) == (504, "/problems/deadline-exceeded")
        assert asyncio.get_running_loop().time() - started < 2
        async with await psycopg.AsyncConnection.connect(direct_url) as operator:
            running = (
                "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%slept_too_long' AND state = 'active' AND datname = current_database()"
            )
            assert await (await operator.execute(running)).fetchall() == []
        assert process.database.pool.checked_out == 0

    @pytest.mark.usefixtures("impatient")
    async def test_one_that_waits_for_a_server_connection_is_given_up_when_pgbouncer_does(
        self, admin: httpx.AsyncClient, process: Process
    ) -> None:
        # Others, with connections of their own to PgBouncer, hold all that it lends.
        holders = [await psycopg.AsyncConnection.connect(process.database.url) for _ in range(SERVER_CONNECTIONS)]
        for holder in holders:
            await holder.execute("SELECT 1", prepare=False)
        started = asyncio.get_running_loop().time()
        answer = await admin.get(f"{API}/products")
        seconds = asyncio.get_running_loop().time() - started
        for holder in holders:
            await holder.close()
        # PgBouncer ignores that it is cancelled (pgbouncer#1222) until it gives up itself (`query_wait_timeout`, 2 seconds).
        assert answer.status_code == 504
        assert seconds < 3.5
        assert process.database.pool.checked_out == 0


async def test_a_pgbouncer_that_restarts_costs_no_request(admin: httpx.AsyncClient, bouncer: Bouncer) -> None:
    made = await a_product(admin, "A")
    await asyncio.gather(*(admin.get(f"{API}/products/{made['id']}") for _ in range(CLIENTS)))
    bouncer.stop()
    bouncer.start()
    answers = await asyncio.gather(*(admin.get(f"{API}/products/{made['id']}") for _ in range(CLIENTS)))
    assert {answer.status_code for answer in answers} == {200}
    await a_product(admin, "B")
