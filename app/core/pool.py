"""The connection pool: SQLAlchemy's, behind a queue in which the first to come is the first to be served."""

import asyncio
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection, QueuePool
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from app.core.metrics import POOL_HOLD_SECONDS, POOL_TIMEOUTS_TOTAL, POOL_WAIT_SECONDS, Children
from app.core.problems import Overloaded

Connection = psycopg.AsyncConnection[TupleRow]
T = TypeVar("T")

_WAITS, _HOLDS = Children(POOL_WAIT_SECONDS), Children(POOL_HOLD_SECONDS)

# For a backend to end what it is at; psycopg has told it to cancel that before.
_END_SECONDS = 5.0

current_route: ContextVar[str] = ContextVar("current_route", default="none")
"""Whose checkouts these are, for the metrics: the route's template, never a raw path."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A connection that is in use.

    Attributes:
        connection: the driver's own.
        pooled: SQLAlchemy's handle of it.
        taken_at: `time.perf_counter()` when it was taken, in seconds.
    """

    connection: Connection
    pooled: PoolProxiedConnection
    taken_at: float


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
        self._tasks: set[asyncio.Task[Any]] = set()
        self.waiting = 0

    @property
    def largest(self) -> int:
        """The most connections that the live pool can open, whatever it was made with."""
        overflow = self._pool._max_overflow  # noqa: SLF001 - nothing else tells
        return self._pool.size() + overflow if overflow >= 0 else sys.maxsize  # -1 is SQLAlchemy's word for no limit

    @property
    def checked_out(self) -> int:
        """How many connections are in use."""
        return self._pool.checkedout()

    async def check_out(self) -> Checkout:
        """A connection, to be given back.

        Raises:
            Overloaded: all were in use for too long.
            psycopg.OperationalError: the database cannot be reached.
        """
        started = time.perf_counter()
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        opening: asyncio.Task[PoolProxiedConnection] | None = None
        try:
            pooled = await self._idle()
            if pooled is None:
                opening = self._unfinished(self._open())
                pooled = await asyncio.shield(opening)
        except BaseException:
            if opening is None:
                self._free.release()
            else:
                opening.add_done_callback(self._take_back_opened)
            raise
        taken_at = time.perf_counter()
        _WAITS[(current_route.get(),)].observe(taken_at - started)
        return Checkout(_driver(pooled), pooled, taken_at)

    async def give_back(self, checkout: Checkout) -> None:
        """Take a connection back. One that is not idle is closed: nobody shall find the transaction of somebody else."""
        _HOLDS[(current_route.get(),)].observe(time.perf_counter() - checkout.taken_at)
        if checkout.connection.pgconn.transaction_status == TransactionStatus.IDLE:
            self._take_back(checkout.pooled)
        else:
            await asyncio.shield(self._unfinished(self._end(checkout)))

    async def finish(self) -> None:
        """Return when no connection is being made or ended any more."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _wait(self) -> None:
        self.waiting += 1
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._free.acquire()
        except TimeoutError:
            POOL_TIMEOUTS_TOTAL.inc()
            raise Overloaded("All database connections of this process are in use.") from None
        finally:
            self.waiting -= 1

    def _unfinished(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """A task that goes on when nobody waits for it any more."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _take_back(self, pooled: PoolProxiedConnection) -> None:
        try:
            pooled.close()
        finally:
            self._free.release()

    def _take_back_opened(self, opening: "asyncio.Task[PoolProxiedConnection]") -> None:
        """Take back what nobody waits for any more. Given up half-way, it would count at the server for a while, and here no more."""
        if opening.cancelled() or opening.exception() is not None:
            self._free.release()
        else:
            self._take_back(opening.result())

    async def _end(self, checkout: Checkout) -> None:
        """Close a connection. Its place is free when its backend is gone: until then it counts at the server.

        Two exceptions: psycopg has closed it already, because the statement went on for 5 seconds after it was cancelled, or the backend does not end.
        """
        try:
            if checkout.connection.closed:
                await greenlet_spawn(checkout.pooled.invalidate)
            else:
                with socket.socket(fileno=os.dup(checkout.connection.fileno())) as ours:
                    await greenlet_spawn(checkout.pooled.invalidate)
                    await _closed_by_server(ours)
        finally:
            self._free.release()

    async def _idle(self) -> PoolProxiedConnection | None:
        """A connection that is there and that the server has not closed, so that a restarted database costs no request."""
        while self._pool.checkedin():
            try:
                # What is idle is there at once; SQLAlchemy's greenlet, which making a connection needs, would cost twice what the rest does.
                pooled = self._pool.connect()
            except MissingGreenlet:
                break
            if not _is_dead(_driver(pooled)):
                return pooled
            await greenlet_spawn(pooled.invalidate)
        return None

    async def _open(self) -> PoolProxiedConnection:
        """A new connection; or one that was idle, should another one have come back meanwhile."""
        for _ in range(self._pool.size() + 1):
            pooled = await greenlet_spawn(self._pool.connect)
            if not _is_dead(_driver(pooled)):
                return pooled
            await greenlet_spawn(pooled.invalidate)
        raise psycopg.OperationalError("the server closes its connections as soon as they are made")


def _driver(pooled: PoolProxiedConnection) -> Connection:
    return cast("Connection", pooled.driver_connection)


def needs_greenlet(connect: Callable[..., Coroutine[Any, Any, Connection]]) -> Callable[..., Coroutine[Any, Any, Connection]]:
    """`connect` for an engine of a `Pool`: called outside of a greenlet it says so at once, before there is a coroutine that nobody awaits."""

    def connect_in_greenlet(*arguments: Any, **named: Any) -> Coroutine[Any, Any, Connection]:
        if not in_greenlet():
            raise MissingGreenlet
        return connect(*arguments, **named)

    return connect_in_greenlet


async def _closed_by_server(connection: socket.socket) -> None:
    """Return when a backend that was told to end has ended: only then is its end of the connection closed (PostgreSQL's `socket_close`, pqcomm.c)."""
    with suppress(OSError, TimeoutError):
        connection.setblocking(False)
        async with asyncio.timeout(_END_SECONDS):
            while await asyncio.get_running_loop().sock_recv(connection, 4096):
                pass


def _is_dead(connection: Connection) -> bool:
    """Whether the server has closed an idle connection, seen without a round trip: a socket at its end is readable."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
