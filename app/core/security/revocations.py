"""Revoked tokens: what every process knows about users who were disabled or changed since their tokens were issued."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import psycopg
import structlog

from app.core.background import in_background
from app.core.db import DirectConnection
from app.core.logging import reason_of
from app.core.security.scopes import Principal

_log = structlog.get_logger()

_POLL_SECONDS = 2.0
# A login in progress may still issue a token of the old generation, and clocks differ: keep in mind for longer than such a token can live.
_MARGIN_SECONDS = 300
_REVOKED = "SELECT id, token_generation FROM app_user WHERE tokens_revoked_at > now() - make_interval(secs => %(seconds)s)"


class Revocations:
    """The users whose older tokens no longer work, asked from the database every 2 seconds (LISTEN would fail behind PgBouncer).

    Args:
        lifetime_seconds: the longest a token is valid; after that a revocation needs no memory.
    """

    def __init__(self, lifetime_seconds: float) -> None:
        self._seconds = float(lifetime_seconds + _MARGIN_SECONDS)
        self._generations: dict[UUID, int] = {}
        self._stale = False

    def covers(self, principal: Principal) -> bool:
        """Whether the principal's token was revoked: it is of an older generation than its user's."""
        return principal.generation < self._generations.get(principal.user_id, 0)

    @asynccontextmanager
    async def kept_current(self, direct: DirectConnection) -> AsyncIterator[None]:
        """Keep up with the database for as long as the block runs.

        Loads once before the block is entered. While the database does not answer, the last known state counts, at the start too: none.
        """
        await self._load(direct)
        async with in_background(self._poll(direct)):
            yield

    async def _poll(self, direct: DirectConnection) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await self._load(direct)

    async def _load(self, direct: DirectConnection) -> None:
        try:
            self._generations = dict(await direct.fetch_all(_REVOKED, {"seconds": self._seconds}))
        except (psycopg.Error, TimeoutError, OSError) as error:
            if not self._stale:
                _log.warning("revocations_stale", reason=reason_of(error))
            self._stale = True
        else:
            if self._stale:
                _log.info("revocations_current")
            self._stale = False
