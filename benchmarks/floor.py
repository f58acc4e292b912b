"""The floor: what the same answers cost by hand. Starlette, psycopg's pool, the same statements, bytes passed through, and nothing else.

No authentication, no validation, no log, no metrics: what Stockroom adds is the difference.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from pwdlib.hashers.argon2 import Argon2Hasher
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.services import idempotency
from app.services.products import reading
from app.services.reservations import ending, holding

_NOBODY = UUID(int=0)
_pool: AsyncConnectionPool[AsyncConnection[Any]]
_LIST, _ = reading._list_query(frozenset(), has_after=False)
_argon2 = Argon2Hasher(time_cost=2, memory_cost=19456, parallelism=1)
_HASH = _argon2.hash("correct horse battery staple")


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    global _pool
    async with AsyncConnectionPool(
        os.environ["APP_DATABASE_URL"], min_size=5, max_size=5, kwargs={"autocommit": True}, open=False
    ) as _pool:
        yield


async def product(request: Request) -> Response:
    """A product by id."""
    async with _pool.connection() as connection:
        cursor = await connection.execute(reading._PRODUCT_QUERY, {"id": request.path_params["id"]}, prepare=True, binary=True)
        row = await cursor.fetchone()
    assert row is not None
    return Response(row[0], media_type="application/json")


async def products(_: Request) -> Response:
    """The first page of 20 products."""
    async with _pool.connection() as connection:
        cursor = await connection.execute(_LIST, {"candidates": 21, "limit": 20}, prepare=True, binary=True)
        row = await cursor.fetchone()
    assert row is not None
    return Response(f'{{"items":{row[0]},"next_cursor":null}}', media_type="application/json")


async def variant(request: Request) -> Response:
    """A variant by SKU with availability."""
    async with _pool.connection() as connection:
        cursor = await connection.execute(reading.VARIANT_DETAIL_QUERY, {"sku": request.path_params["sku"]}, prepare=True, binary=True)
        row = await cursor.fetchone()
    assert row is not None
    return Response(row[0], media_type="application/json")


async def reserve(request: Request) -> Response:
    """Hold one line, with its idempotency key and ledger: the statements of a reservation in one transaction."""
    body = await request.body()
    wanted = orjson.loads(body)
    line = wanted["lines"][0]
    key = {"principal_id": _NOBODY, "route": "POST /api/v1/reservations", "key": request.headers["idempotency-key"]}
    async with _pool.connection() as connection, connection.transaction():
        await _execute(connection, idempotency._CLAIM, key)
        levels = await _execute(connection, holding._LOCK_LEVELS, {"skus": [line["sku"]], "codes": [None]})
        best = max(levels, key=lambda row: row[4])
        held = await _execute(
            connection,
            holding._HOLD,
            {
                "variant_ids": [best[2]],
                "location_ids": [best[3]],
                "deltas_on_hand": [0],
                "deltas_reserved": [line["quantity"]],
                "reason": "reserved",
                "reference": None,
                "created_by": None,
                "lifetime": timedelta(seconds=900),
            },
        )
        answer = held[0][0].encode()
        kept = {**key, "request_hash": sha256(body).digest(), "status": 201, "headers": Jsonb({}), "body": answer}
        await _execute(connection, idempotency._KEEP, kept)
    return Response(answer, 201, media_type="application/json")


async def commit(request: Request) -> Response:
    """Commit a reservation: the statements of it in one transaction."""
    reservation_id = UUID(request.path_params["id"])
    async with _pool.connection() as connection, connection.transaction():
        lines = await _execute(connection, ending._LOCK, {"id": reservation_id})
        rows = await _execute(
            connection,
            ending._END,
            {
                "variant_ids": [line[3] for line in lines],
                "location_ids": [line[4] for line in lines],
                "deltas_on_hand": [-line[5] for line in lines],
                "deltas_reserved": [-line[5] for line in lines],
                "id": reservation_id,
                "status": "committed",
                "reason": "committed",
                "created_by": None,
            },
        )
    return Response(rows[0][0], media_type="application/json")


async def login(request: Request) -> Response:
    """Argon2's own time."""
    await request.body()
    await run_in_threadpool(_argon2.verify, "correct horse battery staple", _HASH)
    return Response(b"{}", media_type="application/json")


async def _execute(connection: AsyncConnection[Any], query: str, parameters: dict[str, object]) -> list[Any]:
    cursor = await connection.execute(query, parameters, prepare=True, binary=True)
    return await cursor.fetchall()


app = Starlette(
    lifespan=_lifespan,
    routes=[
        Route("/api/v1/products/{id}", product),
        Route("/api/v1/products", products),
        Route("/api/v1/variants/{sku}", variant),
        Route("/api/v1/reservations", reserve, methods=["POST"]),
        Route("/api/v1/reservations/{id}/commit", commit, methods=["POST"]),
        Route("/api/v1/auth/login", login, methods=["POST"]),
    ],
)
