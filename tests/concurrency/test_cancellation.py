"""Requests that are cancelled at each of their awaits in turn: thousands of them leave no connection, no transaction and no place behind."""

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import suppress
from itertools import count
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from app.core.db import Database, ReadSession
from app.services import stock
from tests.pools import with_pool
from tests.shop import API, reserve, stock_of

CONNECTIONS = 4
AT_ONCE = 12
REPEATS = 12

Request = Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]


async def read(client: httpx.AsyncClient) -> httpx.Response:
    return await client.get(f"{API}/variants/A")


async def hold(client: httpx.AsyncClient) -> httpx.Response:
    return await reserve(client, {"sku": "A", "quantity": 1})


async def change(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post(f"{API}/categories", json={"name": "Shirts"})


@pytest.fixture
async def small(app: FastAPI, settings: Settings) -> AsyncIterator[Database]:
    """The test's database on a pool that is smaller than the number of requests."""
    async with with_pool(app, settings, size=CONNECTIONS) as database:
        yield database


@types.coroutine
def cancelled_at(number: int, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, bool]:
    """Run it in the current task, which is cancelled as it waits for the so-many-th time; whether it came to that."""
    task, came_to_it = asyncio.current_task(), False
    error: BaseException | None = None
    for waits in count(1):
        try:
            awaited = work.throw(error) if error is not None else work.send(None)
        except StopIteration:
            return came_to_it
        if waits == number and task is not None:
            came_to_it = task.cancel()
        try:
            yield awaited
            error = None
        except BaseException as raised:  # noqa: BLE001 - for the work to see
            error = raised
    return came_to_it


@pytest.mark.parametrize("request_of", [read, hold, change])
async def test_a_request_that_is_cancelled_at_any_of_its_awaits_leaves_nothing_behind(
    app: FastAPI, admin: httpx.AsyncClient, small: Database, reading: ReadSession, server_urls: tuple[str, str], request_of: Request
) -> None:
    await stock_of(admin, "A", 10_000)
    admission = app.state.process.admission
    # Each test has a database of its own; what is connected to it already is the application's first pool.
    async with await psycopg.AsyncConnection.connect(server_urls[0], autocommit=True) as observer:
        database_name = await reading.fetch_all("SELECT current_database()::text")

        async def backends() -> list[str]:
            cursor = await observer.execute(
                "SELECT state FROM pg_stat_activity WHERE datname = %s AND application_name = 'stockroom'", [database_name[0][0]]
            )
            return [state for (state,) in await cursor.fetchall()]

        others = len(await backends())
        cancelled, most = 0, 0

        async def one(number: int) -> None:
            nonlocal cancelled
            came_to_it = False
            with suppress(asyncio.CancelledError):
                came_to_it = True
                came_to_it = await cancelled_at(number, request_of(admin))
            cancelled += came_to_it

        for number in count(1):
            before = cancelled
            for _ in range(REPEATS):
                await asyncio.gather(*(asyncio.create_task(one(number)) for _ in range(AT_ONCE)))
                most = max(most, len(await backends()) - others)
            if cancelled == before:
                break
        await small.pool.finish()
        assert cancelled >= REPEATS * AT_ONCE
        assert most <= CONNECTIONS
        assert (small.pool.checked_out, small.pool.waiting, admission.in_flight) == (0, 0, 0)
        assert set(await backends()) <= {"idle"}
    assert await stock.reconcile(reading) == []
    answers = await asyncio.gather(*(request_of(admin) for _ in range(AT_ONCE)))
    assert all(answer.status_code < 500 for answer in answers)
