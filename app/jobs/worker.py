"""The process that runs jobs: `stockroom worker`."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

import psycopg
import structlog
from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException

from app.core.background import in_background
from app.core.config import Settings
from app.core.db import TCP_OPTIONS, Database
from app.core.logging import reason_of
from app.jobs import metrics
from app.jobs.tasks import jobs

_log = structlog.get_logger()
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_RETRY_SECONDS = 1.0
_BEAT_SECONDS = 5.0
_POOL_SIZE = 3
"""procrastinate's connections beside its LISTEN; counted in the capacity plan."""
_POOL_TIMEOUT_SECONDS = 5.0
"""How long procrastinate waits for one of them. A stop may have to wait for two such waits while the database is away."""


class Health:
    """What probes see of a worker: a file that is touched for as long as the event loop turns, and says whether it has its database.

    Args:
        file: where; nowhere when there is none.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._state = "waiting"

    def beating(self) -> AbstractAsyncContextManager[None]:
        """Touch the file while the block runs."""
        return nullcontext() if self._file is None else in_background(self._beat())

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Say so while the block runs."""
        self._become("ready")
        try:
            yield
        finally:
            self._become("waiting")

    async def _beat(self) -> None:
        while True:
            self._become(self._state)
            await asyncio.sleep(_BEAT_SECONDS)

    def _become(self, state: str) -> None:
        self._state = state
        if self._file is not None:
            self._file.write_text(f"{state}\n")


async def run_worker(settings: Settings, health: Health | None = None) -> None:
    """Run jobs until SIGTERM or SIGINT; jobs that are running then may end, for at most `APP_SHUTDOWN_SECONDS`.

    A lost database ends procrastinate's worker (procrastinate#1116); this one comes back when the database does.
    """
    health = health or Health(None)
    # A LISTEN needs a session of its own, which no PgBouncer in transaction mode gives.
    settings = settings.around_pgbouncer()
    url = settings.require_database_url()
    database = Database(url, settings, pool_size=2)
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(_work(url, database, settings, health))
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, work.cancel)
    try:
        with metrics.served(settings, jobs.tasks):
            async with health.beating():
                await work
    except asyncio.CancelledError:
        # Only a signal is an answer; whoever cancelled this coroutine has to see it.
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
        await database.close()
    _log.info("worker_stopped")


async def _work(url: str, database: Database, settings: Settings, health: Health) -> NoReturn:
    while True:
        try:
            await _run_procrastinate(url, database, settings, health)
            reason = "procrastinate stopped by itself"
        except (psycopg.Error, ConnectorException) as error:
            reason = reason_of(error.__cause__ or error)
        _log.warning("worker_interrupted", reason=reason, retry_in_seconds=_RETRY_SECONDS)
        await asyncio.sleep(_RETRY_SECONDS)


def connector_to(url: str) -> PsycopgConnector:
    """How procrastinate reaches a database: by a pool, and a connection that listens and would not notice by itself that its host is gone."""
    return PsycopgConnector(
        conninfo=url,
        min_size=1,
        max_size=_POOL_SIZE,
        timeout=_POOL_TIMEOUT_SECONDS,
        kwargs={"application_name": "stockroom-worker", **TCP_OPTIONS},
    )


async def _run_procrastinate(url: str, database: Database, settings: Settings, health: Health) -> None:
    connector = connector_to(url)
    # Not `with_connector`: tasks would go on deferring through the application they were declared with.
    with jobs.replace_connector(connector):
        try:
            await connector.open_async()
            _log.info("worker_started")
            with health.ready():
                await jobs.run_worker_async(
                    concurrency=2,
                    install_signal_handlers=False,
                    fetch_job_polling_interval=2.0,
                    delete_jobs="successful",
                    shutdown_graceful_timeout=settings.shutdown_seconds,
                    additional_context={"database": database, "settings": settings},
                    worker_middleware=[metrics.measured],
                )
        finally:
            await connector.close_async()
