"""The pool: who waits, who is served, and for how long."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from app.core.config import Settings
from app.core.db import Database, problem_from
from app.core.problems import Overloaded


@pytest.fixture
async def single(settings: Settings) -> AsyncIterator[Database]:
    """A database with one connection."""
    database = Database(settings.require_database_url(), settings.model_copy(update={"pool_timeout_seconds": 0.2}), pool_size=1)
    yield database
    await database.close()


@pytest.fixture
async def observer(settings: Settings) -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
    """One that looks at the others."""
    async with await psycopg.AsyncConnection.connect(settings.require_database_url(), autocommit=True) as connection:
        yield connection


async def backends(observer: psycopg.AsyncConnection[TupleRow]) -> set[int]:
    cursor = await observer.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'stockroom'")
    return {pid for (pid,) in await cursor.fetchall()}


async def test_those_who_wait_are_served_in_the_order_they_came_and_nobody_overtakes_them(single: Database) -> None:
    served: list[int] = []

    async def read(number: int) -> None:
        await single.read().fetch_all("SELECT 1")
        served.append(number)
        if number < 20:
            # Comes the moment the connection is free again, and finds others waiting.
            await read(number + 20)

    await asyncio.gather(*(read(number) for number in range(20)))
    assert served == list(range(40))


async def test_who_gives_up_waiting_leaves_the_queue_to_the_others(single: Database) -> None:
    async with single.write() as session:
        await session.fetch_all("SELECT 1")
        impatient = [asyncio.create_task(single.read().fetch_all("SELECT 2")) for _ in range(10)]
        await asyncio.sleep(0)
        waiting = asyncio.create_task(single.read().fetch_all("SELECT 3"))
        await asyncio.sleep(0)
        for task in impatient:
            task.cancel()
        await asyncio.gather(*impatient, return_exceptions=True)
    assert await waiting == [(3,)]


async def test_waiting_ends_after_the_pool_timeout_and_costs_nobody_a_connection(single: Database) -> None:
    async with single.write() as session:
        await session.fetch_all("SELECT 1")
        with pytest.raises(Overloaded):
            await single.read().fetch_all("SELECT 2")
    assert await single.read().fetch_all("SELECT 3") == [(3,)]


async def test_a_connection_that_nobody_waits_for_any_more_is_the_next_ones(
    single: Database, observer: psycopg.AsyncConnection[TupleRow]
) -> None:
    before = await backends(observer)
    impatient = asyncio.create_task(single.read().fetch_all("SELECT 1"))
    for _ in range(5):
        await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    ((first,),) = await single.read().fetch_all("SELECT pg_backend_pid()")
    # Had the one that was being made been given up, it would be seen here too, for a moment.
    assert await backends(observer) - before == {first}


async def test_a_place_is_free_when_the_server_has_ended_the_connection_and_not_before(
    single: Database, observer: psycopg.AsyncConnection[TupleRow]
) -> None:
    for _ in range(20):
        checkout = await single.pool.check_out()
        pid = checkout.connection.info.backend_pid
        await checkout.connection.execute("BEGIN")
        await single.pool.give_back(checkout)
        assert pid not in await backends(observer)


async def test_a_host_that_does_not_answer_is_given_up_after_three_seconds(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = Database(f"postgresql://stockroom@127.0.0.1:{silent.getsockname()[1]}/stockroom", settings, pool_size=2)

        async def write() -> None:
            async with database.write() as session:
                await session.fetch_all("SELECT 1")

        started = time.monotonic()
        errors = await asyncio.gather(database.read().fetch_all("SELECT 1"), write(), return_exceptions=True)
        assert time.monotonic() - started < 5
        assert [problem.name for error in errors if (problem := problem_from(error))] == ["database-unavailable"] * 2  # type: ignore[arg-type]
    await database.close()


async def test_a_connection_that_cannot_be_made_costs_nobody_a_place(settings: Settings) -> None:
    database = Database("postgresql://stockroom@127.0.0.1:1/stockroom", settings, pool_size=1)
    for _ in range(3):
        with pytest.raises(Exception, match="refused"):
            await database.read().fetch_all("SELECT 1")
    await database.close()
