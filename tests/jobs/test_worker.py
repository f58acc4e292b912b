"""The job worker: what is due is done in time, a lost database only interrupts it, and it stops when it is told to."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.core.config import Settings
from app.core.db import Database, ReadSession
from app.jobs.worker import Health, connector_to, run_worker
from app.services.stock import reconcile
from tests.serving.servers import COMMAND, ROOT, environment_of, free_port
from tests.shop import API, level, reserve, stock_of

START_SECONDS = 30


def working(settings: Settings) -> AbstractAsyncContextManager[asyncio.Task[None]]:
    """A worker in this process."""
    return running(run_worker(settings))


@asynccontextmanager
async def running(worker: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(worker)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(holds: Callable[[], Awaitable[object]], seconds: float = START_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.05)


@pytest.fixture
def workers(reading: ReadSession) -> Callable[[], Awaitable[list[Any]]]:
    """Those that have said they are there lately."""
    return lambda: reading.fetch_all("SELECT id FROM procrastinate_workers WHERE last_heartbeat > now() - interval '1 minute'")


@pytest.fixture(autouse=True)
async def no_other_workers(database: Database) -> None:
    async with database.write() as session:
        await session.fetch_all("DELETE FROM procrastinate_workers")


async def expire_one(admin: httpx.AsyncClient, sku: str) -> None:
    """Hold a unit for a second, and watch it come back: never active beyond its time, and free at most 5 seconds later."""
    await stock_of(admin, sku, 1)
    held = (await reserve(admin, {"sku": sku, "quantity": 1}, expires_in_seconds=1)).json()
    expires_at = datetime.fromisoformat(held["expires_at"])
    while await level(admin, sku) != (1, 0):
        asked_at = datetime.now(UTC)
        assert asked_at < expires_at + timedelta(seconds=5)
        status = (await admin.get(f"{API}/reservations/{held['id']}")).json()["status"]
        assert status in (("active", "expired") if asked_at < expires_at else ("expired",))
        await asyncio.sleep(0.02)
    assert datetime.now(UTC) >= expires_at


async def test_its_connections_give_up_a_host_that_is_silent_as_the_pools_do(settings: Settings) -> None:
    connector = connector_to(settings.require_database_url())
    await connector.open_async()
    try:
        async with connector.pool.connection() as connection:
            options = connection.info.get_parameters()
    finally:
        await connector.close_async()
    assert (options["tcp_user_timeout"], options["keepalives_idle"], options["application_name"]) == ("3000", "30", "stockroom-worker")


async def test_a_reservation_is_expired_within_five_seconds_of_its_time_and_never_shown_as_active_after_it(
    admin: httpx.AsyncClient, settings: Settings, reading: ReadSession, workers: Callable[[], Awaitable[list[Any]]]
) -> None:
    async with working(settings):
        await until(workers)
        await expire_one(admin, "A")
    assert await reconcile(reading) == []


async def test_a_worker_whose_connections_are_killed_comes_back_by_itself(
    admin: httpx.AsyncClient, settings: Settings, server_urls: tuple[str, str], workers: Callable[[], Awaitable[list[Any]]]
) -> None:
    async with working(settings) as task:
        await until(workers)
        await expire_one(admin, "A")
        async with await psycopg.AsyncConnection.connect(server_urls[0], autocommit=True) as operator:
            killed = await operator.execute(
                """
                SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                WHERE application_name LIKE 'stockroom%%' AND datname = %s
                """,
                [psycopg.conninfo.conninfo_to_dict(settings.require_database_url())["dbname"]],
            )
            assert len(await killed.fetchall()) >= 2
        await expire_one(admin, "B")
        assert not task.done()


async def test_a_worker_waits_for_a_database_that_is_not_there_yet(settings: Settings, new_database: Callable[..., str]) -> None:
    url = new_database()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def is_working() -> bool:
            rows = await connection.execute("SELECT FROM procrastinate_periodic_defers")
            return bool(await rows.fetchall())

        await connection.execute("ALTER TABLE procrastinate_workers RENAME TO elsewhere")
        async with working(settings.with_database(url)) as task:
            await asyncio.sleep(0.5)
            assert not task.done()
            assert not await is_working()
            await connection.execute("ALTER TABLE elsewhere RENAME TO procrastinate_workers")
            await until(is_working)


@pytest.mark.parametrize("seconds", [0.0, 0.5])
async def test_a_worker_without_a_database_can_be_stopped_at_once(settings: Settings, seconds: float) -> None:
    task = asyncio.create_task(run_worker(settings.with_database("postgresql://stockroom@127.0.0.1:1/stockroom")))
    await asyncio.sleep(seconds)
    task.cancel()
    started = time.monotonic()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    assert time.monotonic() - started < 2


async def test_probes_see_in_a_file_that_the_loop_turns_and_whether_there_is_a_database(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.worker._BEAT_SECONDS", 0.05)
    file = tmp_path / "health"

    async def says(state: str) -> bool:
        return file.exists() and file.read_text() == f"{state}\n"

    async def is_touched_again(since: int) -> bool:
        return file.stat().st_mtime_ns > since

    async with running(run_worker(settings.with_database("postgresql://stockroom@127.0.0.1:1/stockroom"), Health(file))):
        await until(lambda: says("waiting"))
        touched = file.stat().st_mtime_ns
        await until(lambda: is_touched_again(touched))
    async with running(run_worker(settings, Health(file))):
        await until(lambda: says("ready"))
        touched = file.stat().st_mtime_ns
        await until(lambda: is_touched_again(touched))
    assert await says("waiting")


async def test_a_worker_gives_the_signal_back_when_it_is_done(settings: Settings) -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with working(settings):
        await until(_handles_sigterm)
    assert signal.getsignal(signal.SIGTERM) == before


async def test_the_command_stops_quickly_on_sigterm_and_signs_off(
    database: Database, reading: ReadSession, workers: Callable[[], Awaitable[list[Any]]]
) -> None:
    environment = {**os.environ, "APP_DATABASE_URL": database.url, "APP_LOG_FORMAT": "json"}
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", "worker", cwd=root, env=environment, stdout=subprocess.PIPE
    )
    try:
        await until(workers)
        process.terminate()
        started = time.monotonic()
        async with asyncio.timeout(10):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert time.monotonic() - started < 5
    assert [line for line in output.splitlines() if b'"worker_stopped"' in line]
    assert await workers() == []
    assert await reading.fetch_all("SELECT FROM procrastinate_jobs WHERE status = 'doing'") == []


async def _handles_sigterm() -> bool:
    return signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL


async def test_a_worker_tells_what_it_has_done_where_it_is_asked_to(admin: httpx.AsyncClient, settings: Settings) -> None:
    port = free_port()
    ended = 'stockroom_jobs_total{outcome="succeeded",task="app.jobs.tasks.expire_reservations"}'
    async with httpx.AsyncClient() as client, working(settings.model_copy(update={"worker_metrics_port": port})) as work:

        async def told() -> dict[str, float]:
            with suppress(httpx.TransportError):
                text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
                return {series: float(value) for series, _, value in (line.rpartition(" ") for line in text.splitlines() if line[0] != "#")}
            return {}

        await until(told)
        before = await told()
        assert before['stockroom_jobs_total{outcome="failed",task="app.jobs.tasks.drop_old"}'] == 0
        await stock_of(admin, "LS-BLU-M", 1)
        await reserve(admin, {"sku": "LS-BLU-M", "quantity": 1}, expires_in_seconds=1)

        async def has_expired() -> bool:
            name, now = 'stockroom_reservations_total{outcome="expired"}', await told()
            return now[name] == before[name] + 1 and now[ended] > before[ended]

        await until(has_expired)
        after = await told()
        name = 'stockroom_job_duration_seconds_count{task="app.jobs.tasks.expire_reservations"}'
        assert after[name] > before[name]
        assert any(series.startswith('stockroom_build_info{component="worker"') for series in after)
        # What is an api's alone would only be zeros.
        assert not any("admission" in series or "planned" in series for series in after)
        work.cancel()
        await asyncio.wait([work])
        assert await told() == {}


async def test_a_worker_whose_port_for_metrics_is_taken_says_so_in_two_lines(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            "worker",
            cwd=ROOT,
            env=environment_of(settings) | {"APP_WORKER_METRICS_PORT": str(port)},
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await asyncio.wait_for(process.communicate(), START_SECONDS)
    assert process.returncode != 0
    assert errors.decode().splitlines() == [
        f"error: cannot serve metrics on 127.0.0.1 port {port}: Address already in use",
        "  set APP_WORKER_METRICS_PORT to another port",
    ]
