"""One embedded PostgreSQL a run, one database a worker, really committed and emptied before each test."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from joserfc.jwk import ECKey
from pydantic import SecretStr
from sqlalchemy import make_url

from app.core import migrations
from app.core.config import Settings
from app.core.db import Database, ReadSession
from app.core.embedded import EmbeddedPostgres
from app.core.process import Process
from app.core.security import scopes_of
from app.main import create_app
from app.models import Base

TEMPLATE = "stockroom_template"
_TABLES = (
    ", ".join(table.name for table in Base.metadata.sorted_tables)
    + ", procrastinate_jobs, procrastinate_periodic_defers, procrastinate_events"
)
_SERVER = pytest.StashKey[tuple[EmbeddedPostgres, Path]]()
_SIGNING_KEY = ECKey.generate_key("P-256").as_pem(private=True).decode()


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith("APP_")]:
        del os.environ[name]
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    folder = Path(tempfile.mkdtemp(prefix="stockroom-tests-"))
    server = EmbeddedPostgres(folder, max_connections=300, durable=False)
    config.stash[_SERVER] = (server, folder)
    server.start()
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {TEMPLATE} OWNER stockroom")
    migrations.upgrade(_database(server.database_url, TEMPLATE))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _SERVER in config.stash:
        server, folder = config.stash[_SERVER]
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: tell each worker where the run's server is."""
    server, _ = node.config.stash[_SERVER]
    node.workerinput["urls"] = (server.admin_url, server.database_url)


@pytest.fixture(scope="session")
def server_urls(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The run's server: a superuser's URL, and the application role's."""
    if (given := getattr(request.config, "workerinput", None)) is not None:
        admin_url, url = given["urls"]
        return admin_url, url
    server, _ = request.config.stash[_SERVER]
    return server.admin_url, server.database_url


@pytest.fixture(scope="session")
def new_database(server_urls: tuple[str, str]) -> Iterator[Callable[..., str]]:
    """Makes a database of one's own, migrated unless `template` says otherwise; gives the application role's URL. Dropped at the end."""
    admin_url, url = server_urls
    made: list[str] = []

    def make(template: str = TEMPLATE) -> str:
        name = f"test_{uuid4().hex}"
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER stockroom")
        made.append(name)
        return _database(url, name)

    yield make
    with psycopg.connect(admin_url, autocommit=True) as admin:
        for name in made:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def database_url(new_database: Callable[..., str]) -> str:
    """This worker's own database."""
    return new_database()


@pytest.fixture(scope="session")
def settings(database_url: str) -> Settings:
    # Some tests ask fifty times at once, and all want to be served.
    return Settings(_env_file=None, database_url=SecretStr(database_url), signing_keys=SecretStr(_SIGNING_KEY), wait_budget_ms=200)


@pytest.fixture(scope="session")
async def running_app(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def app(running_app: FastAPI) -> FastAPI:
    """The application, on an empty database."""
    process: Process = running_app.state.process
    async with process.database.write() as session:
        await session.fetch_all(f"TRUNCATE {_TABLES}")
    return running_app


@pytest.fixture
def process(app: FastAPI) -> Process:
    process: Process = app.state.process
    return process


@pytest.fixture
def database(process: Process) -> Database:
    return process.database


@pytest.fixture
def reading(database: Database) -> ReadSession:
    return database.read()


@pytest.fixture
def token_for(process: Process) -> Callable[..., str]:
    """Makes an access token with the scopes of roles."""

    def make(*roles: str, user_id: UUID | None = None) -> str:
        return process.tokens.issue(user_id or uuid4(), scopes_of(roles), 1)

    return make


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client that is nobody yet."""
    async with _client(app) as client:
        yield client


@pytest.fixture
async def admin(app: FastAPI, token_for: Callable[..., str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client with an administrator's token."""
    async with _client(app, token_for("admin")) as client:
        yield client


@pytest.fixture
async def viewer(app: FastAPI, token_for: Callable[..., str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may only read."""
    async with _client(app, token_for("viewer")) as client:
        yield client


def _client(app: FastAPI, token: str | None = None) -> httpx.AsyncClient:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stockroom.test", headers=headers)


def _database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)
