"""Pools of other sizes than the test's application has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI

from app.core.config import Settings
from app.core.db import Database
from app.core.process import Process


@asynccontextmanager
async def with_pool(app: FastAPI, settings: Settings, *, size: int) -> AsyncIterator[Database]:
    """The application on a pool of so many connections to the same database, for as long as the block runs."""
    process: Process = app.state.process
    database = Database(settings.require_database_url(), settings, pool_size=size)
    app.state.process = replace(process, database=database)
    try:
        yield database
    finally:
        app.state.process = process
        await database.close()
