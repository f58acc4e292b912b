"""The database: one engine, one pool, two session types.

The engine's default is AUTOCOMMIT: a read is one round trip, and prepared statements survive, because psycopg drops its cache at every ROLLBACK.
`ReadSession` uses it as it is. `WriteSession` begins a transaction at READ COMMITTED. A function's signature says which
it needs, so a type checker catches a write on a read session.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
from psycopg import errors as pg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from app.core.config import Settings
from app.core.pool import Checkout, Pool, needs_greenlet
from app.core.problems import Conflict, DatabaseUnavailable, DeadlineExceeded, Overloaded, Problem, ValidationFailed
from app.core.statements import Parameters, Statements

_NONE: Parameters = {}
_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_CONNECT_SECONDS = 3
TCP_OPTIONS = {
    # A host that does not even refuse shall not hold requests until their deadline. Of each address: there may be a standby to try.
    "connect_timeout": _CONNECT_SECONDS,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    # Keepalives are silent while an answer is awaited: without this a lost host would hold the pool until TCP gives up. It is of what the
    # host's kernel has not acknowledged (tcp(7)); a statement may take as long as it takes.
    "tcp_user_timeout": 1000 * _CONNECT_SECONDS,
}
"""Of every connection that stays open: when a host that is silent is given up."""

# psycopg's own; `Statements` does not wait for so many uses.
_PREPARE_THRESHOLD = 5


class ReadSession:
    """Reads, each statement on its own (AUTOCOMMIT). Holds a connection only while a statement runs, so there is nothing to close."""

    def __init__(self, pool: Pool, statements: Statements) -> None:
        self._pool = pool
        self._statements = statements

    async def fetch_all(self, query: str, parameters: Parameters = _NONE) -> list[TupleRow]:
        """The rows of a prepared statement, run on the driver's own connection from this session's pool.

        This is the fast path for the hottest statements: SQLAlchemy's `execute` costs three times the driver's call. A connection that turns out
        to be broken is thrown away and the statement is tried once more on another one, since nothing has been written.

        Args:
            query: SQL with psycopg's named placeholders, `%(name)s`. Always a constant text, so that it is prepared once.
            parameters: values for the placeholders.
        """
        try:
            return await self._fetch_all(query, parameters)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            # Nor what has taken its time: the second try would take as long.
            if isinstance(error, pg.QueryCanceled | pg.LockNotAvailable | pg.ConnectionTimeout):
                raise
            return await self._fetch_all(query, parameters)

    async def fetch_one(self, query: str, parameters: Parameters = _NONE) -> TupleRow | None:
        """The first row of `fetch_all`, or None."""
        rows = await self.fetch_all(query, parameters)
        return rows[0] if rows else None

    async def _fetch_all(self, query: str, parameters: Parameters) -> list[TupleRow]:
        checkout = await self._pool.check_out()
        try:
            return await self._statements.run(checkout.connection, query, parameters)
        finally:
            await self._pool.give_back(checkout)


class WriteSession(ReadSession):
    """One transaction at READ COMMITTED. Whoever made it commits it or rolls it back.

    A connection is taken, and the transaction begun, with the first statement.

    Args:
        pool: where the connection is from.
        statements: what runs on it.
        begin: begins the transaction; several statements in one text are one round trip.
    """

    def __init__(self, pool: Pool, statements: Statements, *, begin: str = _BEGIN) -> None:
        super().__init__(pool, statements)
        self._begin = begin
        self._checkout: Checkout | None = None
        self._when_committed: list[Callable[[], None]] = []

    def when_committed(self, note: Callable[[], None]) -> None:
        """Call it when the changes have been made to last: what is undone is not counted."""
        self._when_committed.append(note)

    async def fetch_all(self, query: str, parameters: Parameters = _NONE) -> list[TupleRow]:
        """As in `ReadSession`, but inside the transaction and never tried twice."""
        return await self._statements.run(await self.driver_connection(), query, parameters)

    async def driver_connection(self) -> psycopg.AsyncConnection[TupleRow]:
        """The driver's connection that the transaction runs on."""
        if self._checkout is None:
            self._checkout = await self._pool.check_out()
            await self._statements.timed(self._begin, self._checkout.connection.execute(cast("Any", self._begin)))
        return self._checkout.connection

    async def commit(self) -> None:
        """Make the changes last and give the connection back.

        Raises:
            psycopg.errors.InFailedSqlTransaction: a statement had failed, and its error was passed over: PostgreSQL has rolled back.
        """
        if self._checkout is None:
            return
        cursor = await self._statements.timed("COMMIT", self._checkout.connection.execute("COMMIT"))
        # PostgreSQL answers COMMIT with ROLLBACK, not with an error, when the transaction had failed.
        if cursor.statusmessage != "COMMIT":
            raise pg.InFailedSqlTransaction("the transaction had failed and was rolled back")
        for note in self._when_committed:
            note()
        await self._give_back()

    async def rollback(self) -> None:
        """Undo the changes, if there are any, and give the connection back. Also when the task is being cancelled."""
        if self._checkout is not None:
            await asyncio.shield(self._roll_back())

    async def _roll_back(self) -> None:
        try:
            if self._checkout is not None and self._checkout.connection.pgconn.transaction_status in _OPEN:
                await self._checkout.connection.execute("ROLLBACK")
        finally:
            await self._give_back()

    async def _give_back(self) -> None:
        checkout, self._checkout = self._checkout, None
        if checkout is not None:
            await self._pool.give_back(checkout)


class Database:
    """The engine and its pool, one of each per process.

    Sessions rely on no state of the server's session but the time zone and the time limits, so all of them work through a PgBouncer in transaction mode.
    It refuses limits in the start-up packet (`options`) and keeps none that a client sets: transactions set their own, and those of reads come with
    PgBouncer's server connections (`connect_query`, docs/capacity.md). The time zone it does keep for each client (its manual, "track_extra_parameters").

    Args:
        url: `postgresql://…`, as psycopg takes it.
        settings: the limits, and whether the URL leads to a PgBouncer.
        pool_size: connections this process may hold for requests; there is no overflow.
    """

    def __init__(self, url: str, settings: Settings, *, pool_size: int) -> None:
        self.url = url
        limits_ms = {
            "statement_timeout": round(settings.statement_timeout_seconds * 1000),
            "lock_timeout": round(settings.lock_timeout_seconds * 1000),
            "idle_in_transaction_session_timeout": round(settings.statement_timeout_seconds * 2000),
        }
        if settings.is_behind_pgbouncer:
            connect, options = _connect_in_utc, ""
            self._begin = "; ".join([_BEGIN, *(f"SET LOCAL {name} = {limit}" for name, limit in limits_ms.items())])
        else:
            connect, options = (
                psycopg.AsyncConnection.connect,
                " ".join(["-c timezone=UTC", *(f"-c {name}={limit}" for name, limit in limits_ms.items())]),
            )
            self._begin = _BEGIN
        self.engine = create_async_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            # LIFO keeps a small set of connections hot; the rest go idle and can be closed by the server unnoticed.
            pool_use_lifo=True,
            # Sessions give back only connections that are idle, outside of any transaction.
            pool_reset_on_return=None,
            connect_args={
                "async_creator_fn": needs_greenlet(connect),
                "autocommit": True,
                "prepare_threshold": _PREPARE_THRESHOLD if settings.prepares_statements else None,
                "application_name": "stockroom",
                "options": options,
                **TCP_OPTIONS,
            },
        )
        self.pool = Pool(self.engine, size=pool_size, timeout_seconds=settings.pool_timeout_seconds)
        self._statements = Statements(slow_seconds=settings.slow_query_seconds)

    def read(self) -> ReadSession:
        """A session for reads."""
        return ReadSession(self.pool, self._statements)

    def write_session(self) -> WriteSession:
        """A transaction to commit or to roll back oneself."""
        return WriteSession(self.pool, self._statements, begin=self._begin)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        """A transaction: committed when the block ends, rolled back when it raises."""
        session = self.write_session()
        try:
            yield session
            await session.commit()
        finally:
            await session.rollback()

    async def close(self) -> None:
        """Close all idle connections, those that are being made included."""
        await self.pool.finish()
        await self.engine.dispose()


class DirectConnection:
    """The one connection that a process holds outside its pool, so that readiness and revocations work when the pool is exhausted.

    Used by one caller at a time, connected when needed, connected anew after a failure.

    Args:
        url: `postgresql://…`, as psycopg takes it; may lead to a PgBouncer.
        timeout_seconds: for connecting and answering together.
        prepares: whether statements are prepared on the server.
    """

    def __init__(self, url: str, *, timeout_seconds: float, prepares: bool = True) -> None:
        self._url = url
        self._prepare_threshold = _PREPARE_THRESHOLD if prepares else None
        self._timeout_seconds = timeout_seconds
        self._connection: psycopg.AsyncConnection[TupleRow] | None = None
        self._statements = Statements()
        self._turn = asyncio.Lock()

    async def fetch_all(self, query: str, parameters: Parameters = _NONE) -> list[TupleRow]:
        """The rows of a query.

        Raises:
            TimeoutError: connecting and answering took longer than `timeout_seconds`.
            psycopg.Error: the database refused.
        """
        async with asyncio.timeout(self._timeout_seconds), self._turn:
            if self._connection is None or self._connection.closed:
                self._connection = await _connect(
                    self._url,
                    autocommit=True,
                    application_name="stockroom-direct",
                    prepare_threshold=self._prepare_threshold,
                    **(TCP_OPTIONS | {"connect_timeout": max(2, round(self._timeout_seconds))}),
                )
            try:
                return await self._statements.run(self._connection, query, parameters)
            except (psycopg.OperationalError, asyncio.CancelledError):
                await self._connection.close()
                raise

    async def close(self) -> None:
        """Close it, if it is open."""
        if self._connection is not None:
            await self._connection.close()


def problem_from(error: BaseException) -> Problem | None:
    """What to tell a client about a database error, or None when it is a fault of ours.

    Args:
        error: anything that SQLAlchemy or psycopg raised.
    """
    if isinstance(error, DBAPIError):
        error = error.orig or error
    match error:
        case pg.QueryCanceled():
            return DeadlineExceeded("The database needed longer than it may for one statement.")
        case pg.LockNotAvailable() | pg.DeadlockDetected() | pg.SerializationFailure():
            return Overloaded("Other requests are changing the same things right now.")
        case pg.UniqueViolation() | pg.ForeignKeyViolation():
            # Services look first; this is the one who lost a race.
            return Conflict("Another request changed the same thing at the same moment. Read it again.")
        case pg.ProgramLimitExceeded():
            return ValidationFailed("A value is larger than the database can store.", errors=[])
        case psycopg.OperationalError() | psycopg.InterfaceError() | pg.ReadOnlySqlTransaction():
            return DatabaseUnavailable()
        case psycopg.DataError():
            # The DTOs refuse what PostgreSQL cannot store; this is the net below them.
            return ValidationFailed("A value is out of the range that can be stored.", errors=[])
    return None


async def _connect(*arguments: Any, **named: Any) -> psycopg.AsyncConnection[TupleRow]:
    """Connect as psycopg does, and when cancelled meanwhile, close what comes of it.

    psycopg leaves the half-open socket to the garbage collector; until then it holds a slot of the server that no plan counts.
    """
    connecting = asyncio.ensure_future(psycopg.AsyncConnection.connect(*arguments, **named))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.add_done_callback(_discard)
        raise


async def _connect_in_utc(*arguments: Any, **named: Any) -> psycopg.AsyncConnection[TupleRow]:
    """Connect through a PgBouncer: it refuses the time zone as an option, and sets it on whatever server connection this client is given."""
    connection = await psycopg.AsyncConnection.connect(*arguments, **named)
    try:
        await connection.execute("SET TimeZone = 'UTC'")
    except BaseException:
        await connection.close()
        raise
    return connection


def _discard(connecting: "asyncio.Future[psycopg.AsyncConnection[TupleRow]]") -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().pgconn.finish()


async def wait_for_database(url: str, *, seconds: float) -> None:
    """Return as soon as the database answers.

    Raises:
        psycopg.OperationalError: it did not answer in time; the last reason.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=2):
                return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
