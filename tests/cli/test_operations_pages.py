"""docs/operations: a backup made and restored with the commands of its page is the same shop, and the queries of the incident card run."""

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
from psycopg import sql

from app.core.config import Settings
from app.core.embedded.programs import find_programs, server_owner
from app.main import create_app
from tests.shop import API, a_product, reserve, stock_of

PAGES = Path(__file__).parents[2] / "docs/operations"


def blocks(page: str, language: str) -> list[str]:
    """The code of a page, without the indentation of the list that it may stand in."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found: list[str] = re.findall(rf"^ *```{language}\n(.+?)^ *```", text, re.DOTALL | re.MULTILINE)
    assert found
    return found


def contents(url: str) -> dict[str, set[str]]:
    """Every row of every table."""
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = sql.SQL("SELECT t::text FROM {} AS t")
        return {name: {row for (row,) in connection.execute(rows.format(sql.Identifier(name)))} for (name,) in names}


async def test_a_dump_restored_as_the_page_says_is_the_same_shop_and_sells(
    admin: httpx.AsyncClient, settings: Settings, database_url: str, new_database: Callable[..., str], tmp_path: Path
) -> None:
    await a_product(admin, "LS-BLU-M")
    await stock_of(admin, "LS-BLU-M", 10, "BER-1")
    held = (await reserve(admin, {"sku": "LS-BLU-M", "quantity": 4})).json()
    restored = new_database(template="template0")
    environment = {
        "PATH": os.pathsep.join([str(find_programs(server_owner())), str(Path(sys.executable).parent), os.defpath]),
        "DATABASE_URL": database_url,
        "RESTORED_URL": restored,
    }
    # But for the capacity check: on this server are the connections of other tests too.
    lines = [line for block in blocks("backup.md", "sh") for line in block.splitlines() if "capacity check" not in line]
    commands = await asyncio.create_subprocess_exec("bash", "-euc", "\n".join(lines), env=environment, cwd=tmp_path)
    assert await commands.wait() == 0
    assert contents(restored) == contents(database_url)

    app = create_app(settings.with_database(restored))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stockroom.test", headers=admin.headers) as client,
    ):
        assert (await client.post(f"{API}/reservations/{held['id']}/commit")).json()["status"] == "committed"
        assert (await reserve(client, {"sku": "LS-BLU-M", "quantity": 7})).status_code == 409
        assert (await reserve(client, {"sku": "LS-BLU-M", "quantity": 6})).status_code == 201


def test_the_queries_of_the_incident_card_run(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        for query in blocks("incidents.md", "sql"):
            assert connection.execute(query.encode()).description
