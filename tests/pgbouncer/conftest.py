"""The application behind a PgBouncer, on a database whose own time zone is not UTC."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import make_url

from app.core.config import Settings
from app.main import create_app
from tests.pgbouncer.bouncers import PROGRAM, Bouncer, counted

Peak = Callable[[], int]


@pytest.fixture(scope="session")
def bouncer(server_urls: tuple[str, str]) -> Iterator[Bouncer]:
    if PROGRAM is None:
        pytest.skip("pgbouncer is not installed; on Debian and Ubuntu: apt install pgbouncer")
    folder = Path(tempfile.mkdtemp(prefix="stockroom-pgbouncer-"))
    bouncer = Bouncer(folder, server_urls[1])
    bouncer.start()
    yield bouncer
    bouncer.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def direct_url(new_database: Callable[..., str]) -> str:
    url = new_database()
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {make_url(url).database} SET timezone = 'Asia/Tokyo'")
    return url


@pytest.fixture(scope="session")
def settings(settings: Settings, bouncer: Bouncer, direct_url: str) -> Settings:
    return settings.model_copy(
        update={"database_url": SecretStr(bouncer.through(direct_url)), "database_direct_url": SecretStr(direct_url)}
    )


@pytest.fixture(scope="session")
async def running_app(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def peak(server_urls: tuple[str, str], direct_url: str) -> AsyncIterator[Peak]:
    """The most connections that the server has had to the database at once in this test."""
    async with counted(server_urls[0], direct_url) as peak:
        yield peak
