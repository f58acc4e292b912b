"""Stock under sixteen real connections at once: nothing is sold twice, nothing deadlocks, nothing is left open."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from itertools import cycle, islice, permutations
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg import errors as pg

from app.core.config import Settings
from app.core.db import Database, ReadSession, WriteSession
from app.core.problems import Conflict, InsufficientStock, NotFound
from app.schemas.reservations import LineIn, ReservationCreate
from app.schemas.stock import AdjustmentCreate, AdjustmentLine
from app.services import reservations, stock
from tests.pools import with_pool
from tests.shop import API, level, pages, reserve, stock_of

CONNECTIONS = 16
USER = uuid4()
SKUS = ("A", "B", "C")
PLACES = ("BER-1", "HAM-1")


@pytest.fixture
async def crowded(app: FastAPI, settings: Settings) -> AsyncIterator[Database]:
    """The test's database on a pool of sixteen, which requests use as well."""
    async with with_pool(app, settings, size=CONNECTIONS) as database:
        yield database


@pytest.fixture
def crowd(admin: httpx.AsyncClient, crowded: Database) -> httpx.AsyncClient:
    """An administrator whose requests may use sixteen connections at once."""
    del crowded
    return admin


@pytest.fixture(autouse=True)
async def the_books_agree_afterwards(reading: ReadSession):
    yield
    assert await stock.reconcile(reading) == []


def wanted(*lines: tuple[str, int, str | None], seconds: int = 900) -> ReservationCreate:
    # Built without checks: no client may ask for a lifetime of 0, but a test may.
    return ReservationCreate.model_construct(
        lines=[LineIn(sku=sku, quantity=quantity, location=place) for sku, quantity, place in lines],
        expires_in_seconds=seconds,
        reference=None,
    )


async def all_at_once(database: Database, *efforts: Callable[[WriteSession], Awaitable[Any]]) -> list[Any]:
    """Each effort in a transaction on a connection of its own, started when all have one; gives results and the refusals that are no faults."""
    start = asyncio.Barrier(len(efforts))

    async def run(effort: Callable[[WriteSession], Awaitable[Any]]) -> Any:
        try:
            async with database.write() as session:
                await session.driver_connection()
                await start.wait()
                return await effort(session)
        except (InsufficientStock, Conflict, NotFound) as refusal:
            return refusal

    return await asyncio.gather(*map(run, efforts))


async def test_sixteen_connections_after_the_last_ten_units_get_exactly_ten(admin: httpx.AsyncClient, crowded: Database) -> None:
    await stock_of(admin, "A", 10)
    results = await all_at_once(crowded, *[lambda session: reservations.reserve(session, wanted(("A", 1, None)), by=USER)] * CONNECTIONS)
    assert sum(isinstance(result, InsufficientStock) for result in results) == CONNECTIONS - 10
    assert await level(admin, "A") == (10, 10)
    (ledger,) = await pages(admin, "/stock/movements", sku="A", limit=100)
    assert [item["delta_reserved"] for item in ledger] == [0] + [1] * 10
    assert {item["cause_id"] for item in ledger[1:]} == {str(result[0]) for result in results if isinstance(result, tuple)}


async def test_so_do_sixteen_clients(crowd: httpx.AsyncClient) -> None:
    await stock_of(crowd, "A", 10)
    answers = await asyncio.gather(*(reserve(crowd, {"sku": "A", "quantity": 1}) for _ in range(CONNECTIONS)))
    assert sorted(answer.status_code for answer in answers) == [201] * 10 + [409] * 6
    assert {answer.json()["type"] for answer in answers if answer.status_code == 409} == {"/problems/insufficient-stock"}
    assert await level(crowd, "A") == (10, 10)


@pytest.mark.parametrize("place", [None, "BER-1"])
async def test_several_skus_in_opposite_orders_wait_for_each_other_but_never_in_a_circle(
    admin: httpx.AsyncClient, crowded: Database, place: str | None
) -> None:
    for sku in SKUS:
        await stock_of(admin, sku, 10)
    orders = islice(cycle(permutations(SKUS)), CONNECTIONS)
    efforts = [
        lambda session, order=order: reservations.reserve(session, wanted(*((sku, 1, place) for sku in order)), by=USER) for order in orders
    ]
    results = await all_at_once(crowded, *efforts)
    assert sum(isinstance(result, InsufficientStock) for result in results) == CONNECTIONS - 10
    assert [await level(admin, sku) for sku in SKUS] == [(10, 10)] * 3


async def test_lines_with_and_without_a_location_get_exactly_the_units_there_are(admin: httpx.AsyncClient, crowded: Database) -> None:
    for sku in SKUS[:2]:
        await stock_of(admin, sku, 4, "BER-1")
        await stock_of(admin, sku, 6, "HAM-1")
    lines = [[("A", 1, None), ("B", 1, None)], [("B", 1, "HAM-1"), ("A", 1, "BER-1")], [("B", 1, None), ("A", 1, "HAM-1")]]
    efforts = [lambda session, lines=lines[n % 3]: reservations.reserve(session, wanted(*lines), by=USER) for n in range(CONNECTIONS)]
    results = await all_at_once(crowded, *efforts)
    held = {sku: [await level(admin, sku, place) for place in PLACES] for sku in SKUS[:2]}
    taken = sum(isinstance(result, tuple) for result in results)
    assert all(0 <= reserved <= on_hand for levels in held.values() for on_hand, reserved in levels)
    assert [sum(reserved for _, reserved in levels) for levels in held.values()] == [taken, taken]
    assert taken >= 8


class Traffic:
    """Whatever may happen to stock, at random."""

    def __init__(self) -> None:
        self.held: list[UUID] = []

    async def reserve(self, session: WriteSession, seconds: int = 900) -> None:
        lines = [(sku, random.randint(1, 4), random.choice((None, *PLACES))) for sku in random.sample(SKUS, random.randint(1, 3))]
        reservation_id, _ = await reservations.reserve(session, wanted(*lines, seconds=seconds), by=USER)
        self.held.append(reservation_id)

    async def reserve_for_no_time(self, session: WriteSession) -> None:
        await self.reserve(session, seconds=0)

    async def adjust(self, session: WriteSession) -> None:
        levels = random.sample([(sku, place) for sku in SKUS for place in PLACES], random.randint(1, 4))
        lines = [AdjustmentLine(sku=sku, location=place, delta=random.choice((-3, -2, 1, 2, 4))) for sku, place in levels]
        await stock.adjust(session, AdjustmentCreate(lines=lines, reason="correction"), by=USER)

    async def expire(self, session: WriteSession) -> None:
        await reservations.expire_due(session, most=3)

    async def commit(self, session: WriteSession) -> None:
        await reservations.commit(session, random.choice(self.held), by=USER)

    async def release(self, session: WriteSession) -> None:
        await reservations.release(session, random.choice(self.held), by=USER)

    async def extend(self, session: WriteSession) -> None:
        await reservations.extend(session, random.choice(self.held), lifetime=timedelta(seconds=random.choice((0, 900))))


async def test_everything_that_touches_stock_may_happen_at_once(admin: httpx.AsyncClient, crowded: Database) -> None:
    for sku in SKUS:
        for place in PLACES:
            await stock_of(admin, sku, 20, place)
    traffic = Traffic()
    makes = [traffic.reserve, traffic.reserve, traffic.reserve_for_no_time, traffic.adjust]
    ends = [traffic.expire, traffic.commit, traffic.release, traffic.extend]
    await all_at_once(crowded, *[traffic.reserve] * CONNECTIONS)
    for _ in range(25):
        await all_at_once(crowded, *random.choices(makes + ends, k=CONNECTIONS))
        assert await stock.reconcile(crowded.read()) == []
    assert len(traffic.held) > CONNECTIONS
    states = await crowded.read().fetch_all("SELECT DISTINCT status FROM reservation")
    assert {status for (status,) in states} == {"active", "committed", "released", "expired"}


_ADD = "INSERT INTO location (code, name) VALUES (%(code)s, 'x')"
_COUNT = "SELECT count(*) FROM location"


async def _fail_after_writing(database: Database, *, seen_by: ReadSession) -> None:
    async with database.write() as session:
        for code in ("A", "B"):
            await session.fetch_all(_ADD, {"code": code})
        assert await seen_by.fetch_all(_COUNT) == [(0,)]
        raise ZeroDivisionError


async def _nothing(database: Database) -> None:
    del database


async def _read(database: Database) -> None:
    await database.read().fetch_all(_COUNT)


async def _failed_read(database: Database) -> None:
    with pytest.raises(pg.DivisionByZero):
        await database.read().fetch_all("SELECT 1 / 0")


async def _cancelled_read(database: Database) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await database.read().fetch_all("SELECT pg_sleep(5)")


async def _committed_write(database: Database) -> None:
    async with database.write() as session:
        await session.fetch_all(_COUNT)


async def _rolled_back_write(database: Database) -> None:
    with pytest.raises(pg.DivisionByZero):
        async with database.write() as session:
            await session.fetch_all("SELECT 1 / 0")


class TestConnections:
    @pytest.mark.parametrize("before", [_nothing, _read, _failed_read, _cancelled_read, _committed_write, _rolled_back_write])
    async def test_a_write_session_is_a_transaction_whatever_its_connection_did_before(
        self, app: FastAPI, settings: Settings, reading: ReadSession, before: Callable[[Database], Awaitable[None]]
    ) -> None:
        del app
        database = Database(settings.require_database_url(), settings, pool_size=1)
        try:
            for _ in range(2):
                await before(database)
                with pytest.raises(ZeroDivisionError):
                    await _fail_after_writing(database, seen_by=reading)
                assert await database.read().fetch_all(_COUNT) == [(0,)]
            await before(database)
            async with database.write() as session:
                await session.fetch_all(_ADD, {"code": "A"})
            assert await reading.fetch_all(_COUNT) == [(1,)]
        finally:
            await database.close()

    async def test_a_read_session_leaves_no_transaction_open(self, crowded: Database, reading: ReadSession) -> None:
        (pid,) = (await crowded.read().fetch_all("SELECT pg_backend_pid()"))[0]
        assert await reading.fetch_all("SELECT state, xact_start FROM pg_stat_activity WHERE pid = %(pid)s", {"pid": pid}) == [
            ("idle", None)
        ]

    async def test_connections_that_the_server_closed_while_they_were_idle_cost_no_request(
        self, crowd: httpx.AsyncClient, crowded: Database, reading: ReadSession
    ) -> None:
        await stock_of(crowd, "A", 100)
        for use in (_read, _committed_write):
            await _end_backends(await _backends(crowded), reading)
            await asyncio.gather(*(use(crowded) for _ in range(CONNECTIONS)))
        await _end_backends(await _backends(crowded), reading)
        answers = await asyncio.gather(*(reserve(crowd, {"sku": "A", "quantity": 1}) for _ in range(CONNECTIONS)))
        assert {answer.status_code for answer in answers} == {201}
        assert await level(crowd, "A") == (100, CONNECTIONS)

    async def test_a_read_whose_connection_breaks_under_it_is_answered_from_another_and_a_write_is_not_tried_twice(
        self, crowded: Database
    ) -> None:
        once = "SELECT CASE WHEN nextval('once') = 1 THEN pg_terminate_backend(pg_backend_pid()) END"
        async with crowded.write() as session:
            await session.fetch_all("DROP SEQUENCE IF EXISTS once")
            await session.fetch_all("CREATE SEQUENCE once")
        assert await crowded.read().fetch_all(once) == [(None,)]
        async with crowded.write() as session:
            await session.fetch_all("SELECT setval('once', 1, false)")
        with pytest.raises(psycopg.OperationalError):
            async with crowded.write() as session:
                await session.fetch_all(once)
        async with crowded.write() as session:
            await session.fetch_all("DROP SEQUENCE once")

    async def test_cancelled_requests_leave_neither_a_connection_nor_a_transaction_behind(
        self, crowd: httpx.AsyncClient, crowded: Database, reading: ReadSession
    ) -> None:
        for sku in SKUS:
            await stock_of(crowd, sku, 1000)
        others = [pid for (pid,) in await reading.fetch_all("SELECT pid FROM pg_stat_activity")]
        await _backends(crowded)

        async def request() -> None:
            lines = [{"sku": sku, "quantity": 1} for sku in random.sample(SKUS, 2)]
            match random.randrange(3):
                case 0:
                    await crowd.get(f"{API}/products")
                case 1:
                    await reserve(crowd, *lines)
                case _:
                    held = (await reserve(crowd, *lines)).json()
                    await crowd.post(f"{API}/reservations/{held['id']}/commit")

        async def cancelled_request() -> None:
            task = asyncio.create_task(request())
            await asyncio.sleep(random.random() * 0.03)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        for _ in range(12):
            await asyncio.gather(*(cancelled_request() for _ in range(CONNECTIONS)))
        assert crowded.engine.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined] # of the queue pool that this is
        await asyncio.sleep(0.1)
        activity = await reading.fetch_all(
            "SELECT state FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> ALL(%(others)s)",
            {"others": others},
        )
        assert len(activity) <= CONNECTIONS
        assert {state for (state,) in activity} <= {"idle"}
        await asyncio.gather(*(request() for _ in range(CONNECTIONS)))


async def _backends(database: Database) -> list[int]:
    """The servers' process ids of all the pool's connections."""
    start = asyncio.Barrier(CONNECTIONS)

    async def own() -> int:
        async with database.write() as session:
            ((pid,),) = await session.fetch_all("SELECT pg_backend_pid()")
            await start.wait()
            return int(pid)

    return list(await asyncio.gather(*(own() for _ in range(CONNECTIONS))))


async def _end_backends(pids: list[int], reading: ReadSession) -> None:
    assert len(set(pids)) == CONNECTIONS
    await reading.fetch_all("SELECT pg_terminate_backend(pid) FROM unnest(%(pids)s::int[]) AS pid", {"pids": pids})
    async with asyncio.timeout(5):
        while await reading.fetch_all("SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%(pids)s)", {"pids": pids}):
            await asyncio.sleep(0.01)
