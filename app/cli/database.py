"""The database that a command works on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from app.core.config import Settings, SettingsError

if TYPE_CHECKING:
    from app.core.db import Database


@asynccontextmanager
async def command_database(settings: Settings) -> AsyncIterator["Database"]:
    """The database of `APP_DATABASE_DIRECT_URL` or `APP_DATABASE_URL`, else the one that `stockroom up` runs in the data folder; on one connection.

    Raises:
        SettingsError: there is neither.
    """
    from app.core.db import Database
    from app.core.embedded import running_database_url

    settings = settings.around_pgbouncer()
    url = settings.database_url.get_secret_value() if settings.database_url else running_database_url(settings.data_folder)
    if url is None:
        raise SettingsError("no database: run `stockroom up` here, or set APP_DATABASE_URL to postgresql://user:password@host:5432/name")
    database = Database(url, settings, pool_size=1)
    try:
        yield database
    finally:
        await database.close()
