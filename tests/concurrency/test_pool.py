"""The pool: who waits, who is served, and for how long."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.core.config import Settings
from app.core.db import Database
from app.core.problems import Overloaded


@pytest.fixture
async def single(settings: Settings) -> AsyncIterator[Database]:
    """A database with one connection."""
    database = Database(settings.require_database_url(), settings.model_copy(update={"pool_timeout_seconds": 0.2}), pool_size=1)
    yield database
    await database.close()


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


async def test_a_connection_that_cannot_be_made_costs_nobody_a_place(settings: Settings) -> None:
    database = Database("postgresql://stockroom@127.0.0.1:1/stockroom", settings, pool_size=1)
    for _ in range(3):
        with pytest.raises(Exception, match="refused"):
            await database.read().fetch_all("SELECT 1")
    await database.close()
