"""The tasks: each leaves the database as it says, also when its worker was killed in the middle."""

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from typing import Any

import httpx
import pytest
from procrastinate import PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.periodic import PeriodicRegistry

from app.core.config import Settings
from app.core.db import Database, ReadSession
from app.jobs.tasks import drop_old, expire_reservations, jobs, retry_stalled
from app.services.stock import reconcile
from tests.shop import API, level, reserve, stock_of

Run = Callable[..., Awaitable[None]]


@pytest.fixture
async def run(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    """Puts tasks into the queue and works until it is empty. None is put there by the clock."""
    monkeypatch.setattr(jobs, "periodic_registry", PeriodicRegistry())  # type: ignore[no-untyped-call] # of procrastinate
    connector = PsycopgConnector(conninfo=database.url, min_size=1, max_size=3)
    with jobs.replace_connector(connector):
        await connector.open_async()

        async def run(*tasks: Any) -> None:
            for task in tasks:
                await put(task)
            context = {"database": database, "settings": settings}
            await jobs.run_worker_async(
                wait=False, listen_notify=False, install_signal_handlers=False, delete_jobs="successful", additional_context=context
            )

        yield run
        await connector.close_async()


async def put(task: Any) -> None:
    """Into the queue, as the clock would."""
    await task.defer_async(timestamp=0)


async def execute(database: Database, statement: str) -> list[Any]:
    async with database.write() as session:
        return list(await session.fetch_all(statement))


async def waiting(reading: ReadSession) -> list[tuple[str, str]]:
    """What is left in the queue: task and status."""
    return await reading.fetch_all("SELECT split_part(task_name, '.', -1), status::text FROM procrastinate_jobs ORDER BY id")


class TestExpiry:
    async def test_due_reservations_give_their_units_back_and_the_ledger_agrees(
        self, admin: httpx.AsyncClient, database: Database, reading: ReadSession, run: Run
    ) -> None:
        await stock_of(admin, "A", 10)
        due = (await reserve(admin, {"sku": "A", "quantity": 3})).json()
        live = (await reserve(admin, {"sku": "A", "quantity": 4})).json()
        await execute(database, f"UPDATE reservation SET expires_at = now() - interval '1 second' WHERE id = '{due['id']}'")
        await run(expire_reservations)
        assert await level(admin, "A") == (10, 4)
        assert [(await admin.get(f"{API}/reservations/{made['id']}")).json()["status"] for made in (due, live)] == ["expired", "active"]
        assert await reconcile(reading) == []
        assert await waiting(reading) == []

    async def test_any_number_is_due_at_once(self, admin: httpx.AsyncClient, database: Database, reading: ReadSession, run: Run) -> None:
        await stock_of(admin, "A", 500)
        await execute(
            database,
            """
            WITH made AS (
                INSERT INTO reservation (status, expires_at) SELECT 'active', now() - interval '1 minute' FROM generate_series(1, 450) RETURNING id
            ), held AS (
                INSERT INTO reservation_line (reservation_id, variant_id, location_id, quantity)
                SELECT made.id, variant_id, location_id, 1 FROM made, stock_level
            ) UPDATE stock_level SET reserved = 450
            """,
        )
        assert await level(admin, "A") == (500, 450)
        await run(expire_reservations)
        assert await level(admin, "A") == (500, 0)
        assert await reading.fetch_all("SELECT status, count(*) FROM reservation GROUP BY status") == [("expired", 450)]


async def test_answers_to_old_idempotency_keys_are_dropped_and_recent_ones_kept(
    admin: httpx.AsyncClient, database: Database, reading: ReadSession, settings: Settings, run: Run
) -> None:
    await stock_of(admin, "A", 10)
    for key in ("old", "recent"):
        assert (await reserve(admin, {"sku": "A", "quantity": 1}, key=key)).status_code == 201
    hours = settings.idempotency_lifetime_hours
    await execute(database, f"UPDATE idempotency_key SET created_at = now() - interval '{hours} hours 1 second' WHERE key = 'old'")
    await execute(
        database, f"UPDATE idempotency_key SET created_at = now() - interval '{hours} hours' + interval '1 minute' WHERE key = 'recent'"
    )
    await run(drop_old)
    assert {key for (key,) in await reading.fetch_all("SELECT key FROM idempotency_key")} & {"old", "recent"} == {"recent"}


async def test_failed_logins_that_no_longer_count_are_dropped(
    client: httpx.AsyncClient, database: Database, reading: ReadSession, run: Run
) -> None:
    await client.post(f"{API}/auth/login", data={"username": "eva@example.com", "password": "a wrong password"})
    await execute(database, "UPDATE login_attempt SET last_failure_at = now() - interval '1 day'")
    await run(drop_old)
    assert await reading.fetch_all("SELECT FROM login_attempt") == []


class TestStalledJobs:
    @pytest.fixture
    async def abandoned(self, database: Database, run: Run) -> None:
        """A clean-up that was begun by a worker of which nobody has heard for an hour."""
        del run  # what opens the queue
        await put(drop_old)
        await execute(database, "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')")
        await execute(database, "UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT max(id) FROM procrastinate_workers)")

    @pytest.mark.usefixtures("abandoned")
    async def test_they_are_run_again(self, client: httpx.AsyncClient, database: Database, reading: ReadSession, run: Run) -> None:
        await client.post(f"{API}/auth/login", data={"username": "eva@example.com", "password": "a wrong password"})
        await execute(database, "UPDATE login_attempt SET last_failure_at = now() - interval '1 day'")
        await run()
        assert ("drop_old", "doing") in await waiting(reading)
        await run(retry_stalled)
        assert await reading.fetch_all("SELECT FROM login_attempt") == []
        assert await waiting(reading) == []

    @pytest.mark.usefixtures("abandoned")
    async def test_one_whose_like_is_waiting_already_is_dropped(self, reading: ReadSession, run: Run) -> None:
        await drop_old.configure(schedule_in={"hours": 1}).defer_async(timestamp=0)
        await run(retry_stalled)
        assert await waiting(reading) == [("drop_old", "todo")]

    @pytest.mark.usefixtures("abandoned")
    async def test_one_whose_worker_is_alive_is_left_alone(self, database: Database, reading: ReadSession, run: Run) -> None:
        await execute(database, "UPDATE procrastinate_workers SET last_heartbeat = now()")
        await run(retry_stalled)
        assert await waiting(reading) == [("drop_old", "doing")]


@pytest.mark.parametrize("task", [expire_reservations, drop_old, retry_stalled])
@pytest.mark.usefixtures("run")
async def test_no_task_waits_twice(task: Any) -> None:
    await put(task)
    with pytest.raises(AlreadyEnqueued):
        await put(task)


@pytest.mark.parametrize(("task", "seconds"), [(expire_reservations, 2), (retry_stalled, 60), (drop_old, 3600)])
def test_a_task_runs_by_the_clock(task: Any, seconds: int) -> None:
    (periodic,) = [entry for entry in jobs.periodic_registry.periodic_tasks.values() if entry.task is task]
    ticks = [periodic.croniter.get_next(float) for _ in range(200)]
    assert {after - before for before, after in pairwise(ticks)} == {seconds}
