"""Probes: liveness is about the process, readiness about what it needs, and neither ever hangs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import make_url

from app.api.health import Readiness
from app.api.metrics import Scrape
from app.core import draining, migrations
from app.core.config import Settings
from app.core.db import Database, DirectConnection
from app.core.process import Process
from app.main import create_app

ALL_WELL = {"database": "ok", "schema": "ok", "capacity": "ok", "draining": "ok"}
ANSWER_SECONDS = 2.5


class Line:
    """The way to the database, over which a test may fall silent, as a network or a stopped machine does: bytes are taken and never answered."""

    def __init__(self, folder: Path, server: Path) -> None:
        self.folder = folder
        self._server = server
        self._open = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open.set()

    def fall_silent(self) -> None:
        self._open.clear()

    def recover(self) -> None:
        self._open.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with await asyncio.start_unix_server(self._connected, self.folder / ".s.PGSQL.5432"):
            yield
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._server)
        for source, target in ((reader, server_writer), (server_reader, writer)):
            self._tasks.add(asyncio.create_task(self._pass_on(source, target)))

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await self._open.wait()
                target.write(data)
        finally:
            target.close()


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Line]:
    url = make_url(database_url)
    # The path of a unix socket has at most 107 bytes, which pytest's own folders may not leave room for.
    with TemporaryDirectory(prefix="line-") as folder:
        line = Line(Path(folder), Path(str(url.query["host"])) / ".s.PGSQL.5432")
        async with line.running():
            yield line


@pytest.fixture
async def asking(app: FastAPI, process: Process, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[str], None]]:
    """Makes readiness ask the database at another address."""
    opened: list[DirectConnection] = []

    def ask(url: str) -> None:
        opened.append(DirectConnection(url, timeout_seconds=2.0))
        monkeypatch.setitem(app.state._state, "readiness", Readiness(replace(process, direct=opened[-1])))

    ask(process.database.url)
    yield ask
    for direct in opened:
        await direct.close()


def over(line: Line, url: str) -> str:
    return make_url(url).set(query={"host": str(line.folder)}).render_as_string(hide_password=False)


async def healthz(client: httpx.AsyncClient) -> tuple[int, dict[str, Any]]:
    """Status and checks; never slower than promised."""
    started = time.monotonic()
    answer = await client.get("/healthz")
    assert time.monotonic() - started < ANSWER_SECONDS
    body = answer.json()
    assert body["status"] == ("ok" if answer.status_code == 200 else "not ready")
    return answer.status_code, body["checks"]


async def test_a_scrape_over_which_the_database_falls_silent_is_answered_before_prometheus_gives_up(
    client: httpx.AsyncClient, app: FastAPI, process: Process, line: Line, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = DirectConnection(over(line, database_url), timeout_seconds=2.0)
    # It is believed to be there: the silence begins after readiness was asked.
    monkeypatch.setitem(app.state._state, "scrape", Scrape(replace(process, direct=direct), app.state.readiness))
    assert "stockroom_postgres_up 1.0" in (await client.get("/metrics")).text
    line.fall_silent()
    started = time.monotonic()
    assert "stockroom_postgres_up 0.0" in (await client.get("/metrics")).text
    assert time.monotonic() - started < 2 * ANSWER_SECONDS
    line.recover()
    await direct.close()


async def test_a_process_is_alive_without_anything_but_itself() -> None:
    """No lifespan ran: there is no database, no pool, nothing to ask."""
    app = create_app(Settings(_env_file=None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stockroom.test") as client:
        answer = await client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_ready_names_every_check(client: httpx.AsyncClient) -> None:
    assert await healthz(client) == (200, ALL_WELL)


@pytest.mark.parametrize(
    "url", ["postgresql://stockroom:hunter2@127.0.0.1:1/stockroom", "postgresql://stockroom:hunter2@/stockroom?host=/nowhere"]
)
async def test_not_ready_while_the_database_is_away(client: httpx.AsyncClient, asking: Callable[[str], None], url: str) -> None:
    asking(url)
    status, checks = await healthz(client)
    assert (status, checks["schema"], checks["draining"]) == (503, "unknown", "ok")
    assert "database" in checks["database"]
    assert not any(word in str(checks) for word in ("hunter2", "127.0.0.1", "nowhere"))


async def test_not_ready_with_a_password_that_the_database_refuses(
    client: httpx.AsyncClient, asking: Callable[[str], None], database_url: str
) -> None:
    asking(make_url(database_url).set(password="wrong").render_as_string(hide_password=False))
    status, checks = await healthz(client)
    assert (status, checks["schema"]) == (503, "unknown")


async def test_not_ready_when_the_database_takes_the_connection_and_never_answers(
    client: httpx.AsyncClient, asking: Callable[[str], None], line: Line, database_url: str
) -> None:
    line.fall_silent()
    asking(over(line, database_url))
    assert (await healthz(client))[0] == 503
    assert (await client.get("/livez")).status_code == 200


async def test_not_ready_when_an_established_connection_falls_silent_and_ready_again_when_it_is_over(
    client: httpx.AsyncClient, asking: Callable[[str], None], line: Line, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.health._REUSE_SECONDS", 0.0)
    asking(over(line, database_url))
    assert await healthz(client) == (200, ALL_WELL)
    line.fall_silent()
    for _ in range(2):
        assert (await healthz(client))[0] == 503
    line.recover()
    async with asyncio.timeout(15):
        while (await healthz(client))[0] != 200:
            await asyncio.sleep(0.1)


async def test_many_probes_at_once_ask_the_database_once(
    client: httpx.AsyncClient, process: Process, asking: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    fetch_all = DirectConnection.fetch_all

    async def count(self: DirectConnection, *arguments: Any) -> Any:
        nonlocal asked
        # Others ask on this connection as well: for revoked tokens, and for the limits of the server.
        asked += "alembic_version" in arguments[0]
        return await fetch_all(self, *arguments)

    monkeypatch.setattr(DirectConnection, "fetch_all", count)
    asking(process.database.url)
    answers = await asyncio.gather(*(healthz(client) for _ in range(50)))
    assert [status for status, _ in answers] == [200] * 50
    # Once more should they take longer than an answer is remembered.
    assert asked <= 2


async def test_ready_while_every_connection_of_the_pool_is_in_use(client: httpx.AsyncClient, database: Database) -> None:
    held = []
    try:
        while database.engine.pool.checkedout() < database.engine.pool.size():  # type: ignore[attr-defined] # of QueuePool
            held.append(await database.engine.connect())
        assert await healthz(client) == (200, ALL_WELL)
    finally:
        for connection in held:
            await connection.close()


class TestSchema:
    """Old pods stay ready when a roll-out has migrated; new ones wait until it has."""

    @pytest.fixture
    def schema_at(self, new_database: Callable[..., str], asking: Callable[[str], None]) -> Callable[[str], None]:
        """Makes readiness ask a database of its own whose schema is at a revision."""
        url = new_database(template="template0")

        def set_revision(statement: str) -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS alembic_version (version_num text); DELETE FROM alembic_version; {statement}".encode()
                )
            asking(url)

        return set_revision

    async def test_not_ready_on_a_revision_that_is_known_to_be_older(
        self, client: httpx.AsyncClient, schema_at: Callable[[str], None]
    ) -> None:
        for revision in sorted(migrations.known_revisions() - {migrations.head()}):
            schema_at(f"INSERT INTO alembic_version VALUES ('{revision}')")
            status, checks = await healthz(client)
            assert (status, checks["database"]) == (503, "ok")
            assert all(text in checks["schema"] for text in (revision, migrations.head(), "stockroom migrate"))

    async def test_ready_on_a_revision_that_this_code_does_not_know(
        self, client: httpx.AsyncClient, schema_at: Callable[[str], None]
    ) -> None:
        schema_at("INSERT INTO alembic_version VALUES ('9999')")
        assert await healthz(client) == (200, ALL_WELL)

    async def test_not_ready_without_a_schema(self, client: httpx.AsyncClient, schema_at: Callable[[str], None]) -> None:
        for statement in ("", "DROP TABLE alembic_version"):
            schema_at(statement)
            status, checks = await healthz(client)
            assert (status, checks["database"]) == (503, "ok")
            assert "stockroom migrate" in checks["schema"]
            assert "None" not in checks["schema"]


async def test_not_ready_while_draining_and_every_answer_closes_its_connection(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Connection" not in (await client.get("/livez")).headers
    monkeypatch.setattr(draining, "_draining", False)
    draining.start_draining()
    status, checks = await healthz(client)
    assert status == 503
    assert "draining" in checks.pop("draining")
    assert checks == {"database": "ok", "schema": "ok", "capacity": "ok"}
    for path, expected in (("/livez", 200), ("/healthz", 503), ("/nowhere", 404), ("/api/v1/products", 401)):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["Connection"]) == (expected, "close")
