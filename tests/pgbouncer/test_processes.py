"""Everything there is, run as processes with the same two URLs: what can goes through the PgBouncer, the rest around it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psycopg
from sqlalchemy import make_url

from app.core.config import Settings
from app.core.sizing import CONNECTIONS_PER_JOB_WORKER
from tests.pgbouncer.bouncers import SERVER_CONNECTIONS, Bouncer, counted
from tests.serving.servers import ROOT, environment_of, serving, until
from tests.shop import level, reserve, stock_of

_LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND datname = %s"


async def _stockroom(environment: dict[str, str], *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "app.cli", *arguments, cwd=ROOT, env=environment)
    assert await process.wait() == 0


@asynccontextmanager
async def _worker(environment: dict[str, str]) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "app.cli", "worker", cwd=ROOT, env=environment)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def test_migrations_imports_the_service_and_jobs_work_together(
    settings: Settings,
    server_urls: tuple[str, str],
    bouncer: Bouncer,
    new_database: Callable[..., str],
    token_for: Callable[..., str],
    tmp_path: Path,
) -> None:
    direct_url = new_database("template0")
    environment = environment_of(settings) | {
        "APP_DATABASE_URL": bouncer.through(direct_url),
        "APP_DATABASE_DIRECT_URL": direct_url,
        "APP_PGBOUNCER_MAX_CLIENT_CONNECTIONS": "500",
        "APP_PGBOUNCER_SERVER_CONNECTIONS": str(SERVER_CONNECTIONS),
        "APP_OTHER_CONNECTIONS": "250",
    }
    file = tmp_path / "products.jsonl"
    file.write_text(json.dumps({"name": "Shirt", "status": "active", "variants": [{"sku": "IMPORTED"}]}) + "\n")
    await asyncio.gather(_stockroom(environment, "migrate"), _stockroom(environment, "migrate"))
    await _stockroom(environment, "import", str(file))
    # Other tests are connected to the same server, as the same role.
    crowd = {"APP_JOB_WORKER_PODS": "20", "APP_OTHER_CONNECTIONS": "100"}
    await _stockroom({**environment, **crowd}, "capacity", "check")
    async with (
        _worker(environment),
        serving(environment) as server,
        counted(server_urls[0], direct_url) as peak,
        httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {token_for('admin')}"}) as admin,
        await psycopg.AsyncConnection.connect(server_urls[0], autocommit=True) as operator,
    ):
        await stock_of(admin, "IMPORTED", 40)
        answers = await asyncio.gather(*(reserve(admin, {"sku": "IMPORTED", "quantity": 1}, expires_in_seconds=1) for _ in range(32)))
        assert {answer.status_code for answer in answers} == {201}

        async def expired() -> bool:
            return await level(admin, "IMPORTED") == (40, 0)

        await until(expired, 30)
        assert await (await operator.execute(_LISTENING, (make_url(direct_url).database,))).fetchall() == [(1,)]
        assert SERVER_CONNECTIONS < peak() <= SERVER_CONNECTIONS + CONNECTIONS_PER_JOB_WORKER
