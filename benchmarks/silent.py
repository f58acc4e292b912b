"""`python -m benchmarks.silent`: `stockroom serve` that tells nothing of its requests, to see what telling costs.

No line in the log, no metrics of requests and connections, no sampling, no ids, no timing of statements. The request is answered the same.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
from psycopg.rows import TupleRow

import app.main
from app.api import middleware
from app.core import pool
from app.core.config import get_settings
from app.core.server import serve
from app.core.statements import Parameters, Statements


class _Nobody:
    """Stands for a histogram and all its parts."""

    def __getitem__(self, _: tuple[str, ...]) -> "_Nobody":
        return self

    def observe(self, _: float) -> None:
        """Forget it."""


@asynccontextmanager
async def _sampled(_: Any) -> AsyncIterator[None]:
    yield


async def _run(_: Statements, connection: psycopg.AsyncConnection[TupleRow], query: str, parameters: Parameters) -> list[TupleRow]:
    cursor = await connection.execute(cast("Any", query), parameters, prepare=True, binary=True)
    return await cursor.fetchall() if cursor.rownumber is not None else []


def main() -> None:
    """Run it until SIGTERM."""
    vars(pool).update(_WAITS=_Nobody(), _HOLDS=_Nobody())
    vars(middleware)["_ids"] = lambda *_: {}
    vars(app.main)["sampled"] = _sampled
    # mypy lets no method be replaced.
    setattr(middleware.RequestContext, "_record", lambda *_: None)  # noqa: B010
    setattr(Statements, "run", _run)  # noqa: B010
    serve(get_settings())


if __name__ == "__main__":
    main()
