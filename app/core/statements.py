"""SQL on the driver's own connections: run prepared, timed, and told of when it was slow."""

import time
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any, TypeVar, cast

import psycopg
import structlog
from psycopg.rows import TupleRow

from app.core.pool import current_route

Parameters = Mapping[str, object]
T = TypeVar("T")

observer: Callable[[str, float, BaseException | None], None] | None = None
"""Called after each statement with its text, how long it took in seconds, and what it failed with; nobody unless traces are on (`app/core/tracing.py`)."""

_LONGEST_SHOWN = 1000
_log = structlog.get_logger()


class Statements:
    """Runs statements, whose texts are constants of ours: the log may show them, and values are never in them.

    Args:
        slow_seconds: one that takes longer has a line in the log.
    """

    def __init__(self, *, slow_seconds: float = inf) -> None:
        self._slow_seconds = slow_seconds

    async def run(self, connection: psycopg.AsyncConnection[TupleRow], query: str, parameters: Parameters) -> list[TupleRow]:
        """The rows of a statement, which is prepared.

        Args:
            query: SQL with psycopg's named placeholders, `%(name)s`.
            parameters: values for them.
        """
        started = time.perf_counter()
        try:
            # psycopg's type wants a LiteralString, which a composed constant is not.
            cursor = await connection.execute(cast("Any", query), parameters, prepare=True, binary=True)
        except BaseException as error:
            self._ended(query, started, error)
            raise
        self._ended(query, started)
        # `description` would tell as well, and make an object of every column for it.
        return await cursor.fetchall() if cursor.rownumber is not None else []

    async def timed(self, query: str, execution: Awaitable[T]) -> T:
        """What the execution of a statement gives that is not prepared."""
        started = time.perf_counter()
        try:
            result = await execution
        except BaseException as error:
            self._ended(query, started, error)
            raise
        self._ended(query, started)
        return result

    def _ended(self, query: str, started: float, error: BaseException | None = None) -> None:
        seconds = time.perf_counter() - started
        if seconds > self._slow_seconds:
            failed = {} if error is None else {"error": type(error).__name__}
            shown = " ".join(query.split())[:_LONGEST_SHOWN]
            _log.warning("slow_query", route=current_route.get(), duration_ms=round(seconds * 1000, 2), query=shown, **failed)
        if observer is not None:
            observer(query, seconds, error)
