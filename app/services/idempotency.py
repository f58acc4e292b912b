"""One effect for a request however often it is sent: its answer is kept in the transaction of its effect."""

from dataclasses import dataclass
from uuid import UUID

from psycopg.types.json import Jsonb

from app.core.db import WriteSession
from app.core.problems import IdempotencyInProgress, IdempotencyKeyReused

# The lock is tried, never waited for: a waiter would hold a connection. PostgreSQL releases it with the transaction, however that ends.
_CLAIM = """
SELECT pg_try_advisory_xact_lock(hashtextextended(%(principal_id)s::text || ' ' || %(route)s || ' ' || %(key)s, 0)),
    kept.request_hash, kept.status, kept.headers, kept.body
FROM (SELECT) AS one
LEFT JOIN idempotency_key kept ON kept.principal_id = %(principal_id)s AND kept.route = %(route)s AND kept.key = %(key)s
"""

_KEEP = """
INSERT INTO idempotency_key (principal_id, route, key, request_hash, status, headers, body)
VALUES (%(principal_id)s, %(route)s, %(key)s, %(request_hash)s, %(status)s, %(headers)s, %(body)s)
ON CONFLICT DO NOTHING RETURNING 1
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What makes two requests the same.

    Args:
        principal_id: whose key it is.
        route: method and path.
        key: the client's Idempotency-Key.
        body_hash: SHA-256 of the raw body.
    """

    principal_id: UUID
    route: str
    key: str
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: status, headers that belong to the answer, and the body as it was sent."""

    status: int
    headers: dict[str, str]
    body: bytes


async def claim(session: WriteSession, request: Request) -> Answer | None:
    """The answer that is kept for a request, or None: then it is the caller's to do, and to `keep`, in this transaction.

    Raises:
        IdempotencyInProgress: another transaction is doing it right now.
        IdempotencyKeyReused: the key was used with another body.
    """
    row = await session.fetch_one(_CLAIM, {"principal_id": request.principal_id, "route": request.route, "key": request.key})
    claimed, body_hash, status, headers, body = row or (False, None, 0, {}, b"")
    if body_hash is not None:
        if body_hash != request.body_hash:
            raise IdempotencyKeyReused("This Idempotency-Key was used with another body.")
        return Answer(status, headers, body)
    if not claimed:
        raise IdempotencyInProgress
    return None


async def keep(session: WriteSession, request: Request, answer: Answer) -> None:
    """Keep the answer for replay.

    Raises:
        IdempotencyInProgress: another transaction did the same between this one's look and its lock. Roll back; the client gets that one's answer.
    """
    kept = await session.fetch_one(
        _KEEP,
        {
            "principal_id": request.principal_id,
            "route": request.route,
            "key": request.key,
            "request_hash": request.body_hash,
            "status": answer.status,
            "headers": Jsonb(answer.headers),
            "body": answer.body,
        },
    )
    if kept is None:
        raise IdempotencyInProgress


async def drop_old(session: WriteSession, *, older_than_hours: int, most: int = 5000) -> int:
    """Forget answers that are too old to be asked for, at most so many at once; returns how many."""
    rows = await session.fetch_all(
        """
        WITH dropped AS (DELETE FROM idempotency_key WHERE ctid = ANY(ARRAY(
                SELECT ctid FROM idempotency_key WHERE created_at < now() - make_interval(hours => %(hours)s) LIMIT %(most)s
            )) RETURNING 1) SELECT count(*) FROM dropped
        """,
        {"hours": older_than_hours, "most": most},
    )
    return int(rows[0][0])
