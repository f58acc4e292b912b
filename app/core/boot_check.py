"""The check at boot: the pool and the workers that are really there, held against a plan made anew from what the live server and the cgroup allow.

Settings only say what was wished for. While the database is away the process stays up, not ready, and asks again; a plan that was made without it counts
for nothing until then.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import psycopg
import structlog

from app.capacity.explaining import explain
from app.core.background import in_background
from app.core.config import Settings
from app.core.db import Database, DirectConnection
from app.core.logging import reason_of
from app.core.sizing import SERVER_LIMITS_QUERY, CapacityError, ServerLimits, accepted_plan, inputs_from

_log = structlog.get_logger()

_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 2.0
_LOG_SECONDS = 5.0
# At this one gunicorn does not start another worker, but stops the whole server with it (`Arbiter.WORKER_BOOT_ERROR`).
_EXIT_CODE = 3


class BootCheck:
    """Whether this process may stay.

    Args:
        database: whose live pool is measured.
        direct: where the server is asked.
        workers: how many processes like this one the server runs.
    """

    def __init__(self, settings: Settings, database: Database, direct: DirectConnection, *, workers: int) -> None:
        self._settings = settings
        self._database = database
        self._direct = direct
        self._workers = workers
        self._logged_at = float("-inf")
        self.result = "waiting for the database, to hold the pool against its limits"
        """For readiness: `ok`, or what is awaited."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check before the block is entered; while the database does not answer, again and again until it does or the block ends.

        What is over its budget ends this process, and with it the server, with the arithmetic on standard error.
        """
        if await self._passes():
            yield
        else:
            async with in_background(self._retry()):
                yield

    async def attempt(self) -> bool:
        """Whether the database answered, and so the check is done.

        Raises:
            CapacityError: the process is over its budget.
        """
        try:
            server = ServerLimits.from_rows(await self._direct.fetch_all(SERVER_LIMITS_QUERY))
        except (psycopg.Error, TimeoutError, OSError) as error:
            if (now := time.monotonic()) - self._logged_at >= _LOG_SECONDS:
                self._logged_at = now
                _log.warning("database_awaited", reason=reason_of(error))
            return False
        self._compare(server)
        self.result = "ok"
        return True

    def _compare(self, server: ServerLimits) -> None:
        plan = accepted_plan(inputs_from(self._settings, server))
        largest, cap = self._database.pool.largest, plan.arithmetic.cap_connections_per_pool
        if largest > cap:
            raise CapacityError(f"over budget: a pool here can open {largest} connections, and its share is {cap}\n{explain(plan)}")
        if self._workers > plan.workers_per_pod:
            raise CapacityError(f"over budget: {self._workers} workers run here, and {plan.workers_per_pod} fit\n{explain(plan)}")
        _log.info("capacity_checked", pool_size=largest, pool_share=cap, workers=self._workers, max_connections=server.max_connections)

    async def _passes(self) -> bool:
        try:
            return await self.attempt()
        except CapacityError as error:
            _exit(error)

    async def _retry(self) -> None:
        delay_seconds = _FIRST_DELAY_SECONDS
        while True:
            await asyncio.sleep(delay_seconds)
            if await self._passes():
                return
            delay_seconds = min(2 * delay_seconds, _LONGEST_DELAY_SECONDS)


def _exit(error: CapacityError) -> NoReturn:
    """End here and now. An exception would become a traceback each in the logs of Starlette and uvicorn, with the arithmetic somewhere within."""
    text = f"error: {error}\n  mend it and start again: sizes are planned anew at each start"
    _log.critical("capacity_exceeded", reason=reason_of(error))
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
    os._exit(_EXIT_CODE)
