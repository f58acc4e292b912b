"""The server obeys the plan: what it starts with, what signals may not change, and what it does when the database allows less, or is away."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from app.core.boot_check import BootCheck
from app.core.config import Settings
from app.core.db import Database
from app.core.folders import memory_folder
from app.core.process import Process
from app.core.sizing import CapacityError
from tests.serving.servers import START_SECONDS, Server, environment_of, serving, somebody_waits_for_a_lock, started, until, until_ready
from tests.shop import API, a_location

WITH_A_LARGER_ENGINE = """
import app.core.db
from app.core.config import get_settings
from app.core.server import serve

make = app.core.db.create_async_engine
app.core.db.create_async_engine = lambda url, **named: make(url, **named | {"max_overflow": 300})
serve(get_settings())
"""


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    return environment_of(settings)


@pytest.fixture
def role(server_urls: tuple[str, str], new_database: Callable[..., str]) -> Iterator[tuple[str, psycopg.Connection]]:
    """A database with a role of its own that may do all that ours may, as a URL, and a superuser who may change it."""
    name = f"role_{uuid4().hex}"
    url = make_url(new_database())
    with psycopg.connect(server_urls[0], autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p' IN ROLE stockroom")
        yield url.set(username=name, password="p").render_as_string(hide_password=False), superuser
        superuser.execute(f"DROP ROLE {name}")


@contextmanager
def away(url: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """A database's URL under which nobody answers, and what makes it answer."""
    socket_folder = Path(str(make_url(url).query["host"]))
    with TemporaryDirectory(prefix="away-") as folder:
        elsewhere = make_url(url).set(query={"host": folder}).render_as_string(hide_password=False)
        socket = ".s.PGSQL.5432"
        yield elsewhere, lambda: (Path(folder) / socket).symlink_to(socket_folder / socket)


async def test_no_signal_and_no_variable_of_gunicorn_changes_what_was_planned(
    admin: httpx.AsyncClient, environment: dict[str, str], role: tuple[str, psycopg.Connection]
) -> None:
    url, superuser = role
    mine = {"APP_DATABASE_URL": url, "APP_CPU_LIMIT": "2", "APP_LOG_LEVEL": "debug"}
    theirs = {"WEB_CONCURRENCY": "7", "GUNICORN_CMD_ARGS": "--workers 7 --max-requests 1 --keep-alive 1"}

    async with serving(environment | mine | theirs) as server, httpx.AsyncClient(base_url=server.url, headers=admin.headers) as client:
        await until(lambda: len(_backends(superuser, url)) == 2, START_SECONDS)
        workers, backends = server.workers, _backends(superuser, url)
        assert len(workers) == 2
        for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2):
            os.killpg(server.process.pid, number)
            await until(partial(_said, server, f"{number.name} ignored: "), 10)
            assert (await client.get(f"{API}/locations")).status_code == 200
            assert (server.workers, _backends(superuser, url)) == (workers, backends), number
        config = _live_config(server)
        server.process.terminate()
        await server.end()

    assert {name: config[name] for name in ("workers", "max_requests", "reuse_port", "preload_app", "control_socket_disable")} == {
        "workers": "2",
        "max_requests": "0",
        "reuse_port": "True",
        "preload_app": "True",
        "control_socket_disable": "True",
    }
    assert config["worker_tmp_dir"] == memory_folder()
    # Above the 60 s after which most load balancers close an idle connection.
    assert int(config["keepalive"]) > 60
    # uvicorn's limits < gunicorn's < those of a pod.
    drain, shutdown = (float(environment[name]) for name in ("APP_DRAIN_SECONDS", "APP_SHUTDOWN_SECONDS"))
    assert drain + shutdown < int(config["graceful_timeout"]) <= drain + shutdown + 10


async def test_a_request_that_does_not_end_is_cut_when_its_time_is_over_told_so_and_rolled_back(
    admin: httpx.AsyncClient, environment: dict[str, str], database_url: str
) -> None:
    place = await a_location(admin, "BER-1")
    limits = {"APP_SHUTDOWN_SECONDS": "0.5", "APP_DRAIN_SECONDS": "0"}
    async with (
        serving(environment | limits) as server,
        httpx.AsyncClient(base_url=server.url, headers=admin.headers, timeout=30) as client,
        await psycopg.AsyncConnection.connect(database_url) as holder,
    ):
        await holder.execute("SELECT FROM location FOR UPDATE")
        waiting = asyncio.create_task(client.patch(f"{API}/locations/{place['id']}", json={"name": "Berlin"}))
        await until(lambda: somebody_waits_for_a_lock(database_url), 10)
        server.process.terminate()
        code, output = await server.end(5)
        answer = await waiting
        await holder.rollback()
    problem = answer.json()
    assert (code, answer.status_code, problem["type"], answer.headers["Connection"]) == (0, 503, "/problems/overloaded", "close")
    assert "stopping" in problem["detail"]
    assert (await admin.get(f"{API}/locations/{place['id']}")).json() == place
    assert b"timeout graceful shutdown exceeded" in output
    assert [line for line in output.splitlines() if b"Traceback" in line] == []


class TestBootCheck:
    """The live pool and workers against the live limits."""

    def check(self, process: Process, *, workers: int = 1, cpu_limit: str = "2") -> BootCheck:
        settings = process.settings.model_copy(update={"cpu_limit": cpu_limit})
        return BootCheck(settings, process.database, process.direct, workers=workers)

    async def test_passes_what_was_planned(self, process: Process) -> None:
        check = self.check(process, workers=2)
        assert check.result.startswith("waiting for the database")
        assert await check.attempt()
        assert check.result == "ok"

    @pytest.mark.parametrize(("pool_size", "overflow"), [(500, 0), (5, 500), (5, -1), (0, 0)])
    async def test_refuses_a_pool_that_can_grow_over_its_share(self, process: Process, pool_size: int, overflow: int) -> None:
        database = Database(process.database.url, process.settings, pool_size=pool_size)
        if overflow:
            database.engine.pool._max_overflow = overflow  # type: ignore[attr-defined] # of QueuePool
        with pytest.raises(
            CapacityError, match=r"^over budget: a pool here can open \d+ connections, and its share is \d+\n(.*\n)+cap per pool"
        ):
            await BootCheck(process.settings, database, process.direct, workers=1).attempt()

    async def test_refuses_more_workers_than_fit(self, process: Process) -> None:
        with pytest.raises(CapacityError, match=r"^over budget: 2 workers run here, and 1 fit\n"):
            await self.check(process, workers=2, cpu_limit="1").attempt()


async def test_workers_whose_engine_is_larger_than_planned_end_the_server_with_the_arithmetic(environment: dict[str, str]) -> None:
    async with started(environment | {"APP_CPU_LIMIT": "2"}, "-c", WITH_A_LARGER_ENGINE) as server:
        code, output = await server.end(START_SECONDS)
    _ended_over_budget(code, output, "error: over budget: a pool here can open 305 connections, and its share is ")


async def test_a_worker_that_finds_a_lower_limit_ends_the_server_with_the_arithmetic(
    environment: dict[str, str], role: tuple[str, psycopg.Connection]
) -> None:
    url, superuser = role
    async with serving(environment | {"APP_DATABASE_URL": url}) as server:
        superuser.execute(f"ALTER ROLE {make_url(url).username} CONNECTION LIMIT 8")
        (worker,) = server.workers
        os.kill(worker, signal.SIGKILL)
        code, output = await server.end(START_SECONDS)
    _ended_over_budget(code, output, "What binds: role_connection_limit = 8")


async def test_without_its_database_a_server_is_alive_and_not_ready_and_becomes_ready_when_the_database_comes(
    admin: httpx.AsyncClient, environment: dict[str, str], database_url: str
) -> None:
    with away(database_url) as (url, arrive):
        async with started(environment | {"APP_DATABASE_URL": url}) as server:
            await until(server.takes_connections, START_SECONDS)
            async with httpx.AsyncClient(base_url=server.url, headers=admin.headers, timeout=10) as client:
                workers = server.workers
                assert (await client.get("/livez")).status_code == 200
                for _ in range(2):
                    answer = await client.get("/healthz")
                    checks = answer.json()["checks"]
                    assert (answer.status_code, checks["capacity"].split(",")[0]) == (503, "waiting for the database")
                    assert checks["database"] != "ok"
                    refusal = await client.get(f"{API}/locations")
                    assert (refusal.status_code, refusal.json()["type"]) == (503, "/problems/database-unavailable")
                    await asyncio.sleep(1)
                assert _said(server, "database_awaited") == 1
                arrive()
                await until_ready(server)
                assert (await client.get("/healthz")).json()["checks"]["capacity"] == "ok"
                assert (await client.get(f"{API}/locations")).status_code == 200
                assert server.workers == workers


async def test_a_server_that_does_not_fit_the_database_that_comes_ends_with_the_arithmetic(
    environment: dict[str, str], database_url: str
) -> None:
    with away(database_url) as (url, arrive):
        async with started(environment | {"APP_DATABASE_URL": url, "APP_REPLICA_CEILING": "5000"}) as server:
            await until(server.takes_connections, START_SECONDS)
            arrive()
            code, output = await server.end(START_SECONDS)
    _ended_over_budget(code, output, "What binds: replica_ceiling = 5000")


def _ended_over_budget(code: int, output: bytes, reason: str) -> None:
    text = output.decode()
    assert code == 3
    assert reason in text
    assert "\ncap per pool " in text
    assert "Traceback" not in text


def _said(server: Server, text: str) -> int:
    return sum(text.encode() in line for line in list(server.log))


def _backends(superuser: psycopg.Connection, url: str) -> set[int]:
    """Those of the workers' connections that are there from the start to the end."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'stockroom-direct'"
    return {pid for (pid,) in superuser.execute(query, (make_url(url).database,))}


def _live_config(server: Server) -> dict[str, str]:
    """The configuration that gunicorn itself tells."""
    (event,) = (json.loads(line)["event"] for line in server.log if b"Current configuration:" in line)
    return {name.strip(): value for name, _, value in (line.partition(": ") for line in event.splitlines()[1:])}
