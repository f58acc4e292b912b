"""The connection pool: SQLAlchemy's, behind a queue in which the first to come is the first to be served."""

import asyncio
import select
from collections.abc import Callable, Coroutine
from typing import Any, cast

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection, QueuePool
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from app.core.problems import Overloaded

_Connection = psycopg.AsyncConnection[TupleRow]


def driver_connection(pooled: PoolProxiedConnection) -> _Connection:
    """The driver's own connection inside a pooled one."""
    return cast("_Connection", pooled.driver_connection)


class Pool:
    """Gives out an engine's connections, at most `size` at a time.

    SQLAlchemy's own queue lets newcomers overtake those who wait, and pays for a greenlet and a timer at each checkout.

    Args:
        engine: its pool has `size` connections and no overflow.
        size: how many connections there are.
        timeout_seconds: how long a checkout may wait.
    """

    def __init__(self, engine: AsyncEngine, *, size: int, timeout_seconds: float) -> None:
        self._pool = cast("QueuePool", engine.sync_engine.pool)
        self._free = asyncio.Semaphore(size)
        self._timeout_seconds = timeout_seconds

    async def check_out(self) -> PoolProxiedConnection:
        """A connection, to be given back.

        Raises:
            Overloaded: all were in use for too long.
            psycopg.OperationalError: the database cannot be reached.
        """
        if self._free.locked():
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await self._free.acquire()
            except TimeoutError:
                raise Overloaded("All database connections of this process are in use.") from None
        else:
            await self._free.acquire()
        try:
            return await self._connect()
        except BaseException:
            self._free.release()
            raise

    async def give_back(self, pooled: PoolProxiedConnection) -> None:
        """Take a connection back. One that is not idle is closed: nobody shall find the transaction of somebody else."""
        try:
            if driver_connection(pooled).pgconn.transaction_status == TransactionStatus.IDLE:
                pooled.close()
            else:
                await asyncio.shield(greenlet_spawn(pooled.invalidate))
        finally:
            self._free.release()

    async def _connect(self) -> PoolProxiedConnection:
        """A connection that the server has not closed, so that a restarted database costs no request."""
        while self._pool.checkedin():
            try:
                # What is idle is there at once; SQLAlchemy's greenlet, which making a connection needs, would cost twice what the rest does.
                pooled = self._pool.connect()
            except MissingGreenlet:
                break
            if not _is_dead(driver_connection(pooled)):
                return pooled
            await greenlet_spawn(pooled.invalidate)
        return await greenlet_spawn(self._pool.connect)


def needs_greenlet(connect: Callable[..., Coroutine[Any, Any, _Connection]]) -> Callable[..., Coroutine[Any, Any, _Connection]]:
    """`connect` for an engine of a `Pool`: called outside of a greenlet it says so at once, before there is a coroutine that nobody awaits."""

    def connect_in_greenlet(*arguments: Any, **named: Any) -> Coroutine[Any, Any, _Connection]:
        if not in_greenlet():
            raise MissingGreenlet
        return connect(*arguments, **named)

    return connect_in_greenlet


def _is_dead(connection: _Connection) -> bool:
    """Whether the server has closed an idle connection, seen without a round trip: a socket at its end is readable."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
