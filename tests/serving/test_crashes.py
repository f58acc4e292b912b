"""Workers killed at any moment, and clients that send again until they have an answer: every key has one effect, and the books agree."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from app.core.db import ReadSession
from app.services import stock
from tests.serving.servers import Server, environment_of, serving, until
from tests.shop import API, level, stock_of

CLIENTS = 12
KILLS = 10
SKUS = ("A", "B", "C")
UNITS = 100_000


_SLOW_COMMITS = """
CREATE FUNCTION sleep_a_little() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON idempotency_key DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleep_a_little()
"""

_COMMITTING = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query = 'COMMIT'"


@pytest.fixture
async def slow_commits(app: FastAPI, database_url: str) -> AsyncIterator[None]:
    """PostgreSQL takes its time between COMMIT and its answer: most workers that die meanwhile leave an effect whose answer is lost."""
    del app
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as owner:
        await owner.execute(_SLOW_COMMITS)
        yield
        await owner.execute("DROP FUNCTION sleep_a_little CASCADE")


@dataclass
class Shopper:
    """Adjusts, reserves and commits, one after the other, each with a key of its own and as often as it takes."""

    url: str
    headers: httpx.Headers
    answers: list[tuple[str, str, dict[str, object], httpx.Response]] = field(default_factory=list)
    """Path, key, body and answer of each request."""
    lost: int = 0

    async def shop(self, over: asyncio.Event) -> None:
        while not over.is_set():
            sku = random.choice(SKUS)
            await self._insist("/stock/adjustments", {"lines": [{"sku": sku, "location": "BER-1", "delta": 2}], "reason": "received"}, 201)
            held = await self._insist("/reservations", {"lines": [{"sku": sku, "quantity": 1}, {"sku": "A", "quantity": 1}]}, 201)
            await self._insist(f"/reservations/{held.json()['id']}/commit", {}, 200)

    async def replay(self) -> None:
        for path, key, body, answer in self.answers[-10:]:
            again = await self._send(path, key, body)
            assert again is not None
            assert (again.status_code, again.content) == (answer.status_code, answer.content)

    async def _insist(self, path: str, body: dict[str, object], status: int) -> httpx.Response:
        key = uuid4().hex
        while (answer := await self._send(path, key, body)) is None or answer.status_code != status:
            assert answer is None or answer.status_code == 503 or answer.json()["type"] == "/problems/idempotency-in-progress", answer.text
            await asyncio.sleep(0.02)
        self.answers.append((path, key, body, answer))
        return answer

    async def _send(self, path: str, key: str, body: dict[str, object]) -> httpx.Response | None:
        """The answer, or None when it was lost: the worker died before, at, or after its work."""
        try:
            # A connection of its own: who comes back reaches whichever worker is there.
            async with httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=20) as client:
                return await client.post(f"{API}{path}", json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            self.lost += 1
            return None


async def kill_again_and_again(server: Server, reading: ReadSession) -> None:
    """At random moments of which some are within a COMMIT."""
    for number in range(KILLS):
        await asyncio.sleep(random.uniform(0.05, 0.3))
        if number % 2:
            await until(lambda: reading.fetch_all(_COMMITTING), 10)
        os.kill(random.choice(list(server.workers)), signal.SIGKILL)


@pytest.mark.usefixtures("slow_commits")
async def test_every_key_has_one_effect_although_workers_die_at_any_moment(
    admin: httpx.AsyncClient, settings: Settings, reading: ReadSession
) -> None:
    for sku in SKUS:
        await stock_of(admin, sku, UNITS)
    # Two workers, so that one can answer while the other is being replaced.
    async with serving({**environment_of(settings), "APP_CPU_LIMIT": "2", "APP_LOG_LEVEL": "error"}) as server:
        over = asyncio.Event()
        shoppers = [Shopper(server.url, admin.headers) for _ in range(CLIENTS)]
        shopping = [asyncio.create_task(shopper.shop(over)) for shopper in shoppers]
        await kill_again_and_again(server, reading)
        over.set()
        await asyncio.gather(*shopping)
        await asyncio.gather(*(shopper.replay() for shopper in shoppers))

    answers = [answer for shopper in shoppers for answer in shopper.answers]
    assert sum(shopper.lost for shopper in shoppers) >= KILLS / 5
    # As many adjustments, reservations and commits, each its own.
    times = len(answers) // 3
    assert len({answer.json()["id"] for path, _, _, answer in answers if not path.endswith("/commit")}) == 2 * times
    movements = await reading.fetch_all("SELECT reason, count(DISTINCT cause_id) FROM stock_movement GROUP BY reason")
    assert dict(movements) == {"received": len(SKUS) + times, "reserved": times, "committed": times}
    kept = await reading.fetch_all("SELECT count(*) FROM idempotency_key")
    assert kept == [(len(SKUS) + 3 * times,)]
    assert await reading.fetch_all("SELECT status, count(*) FROM reservation GROUP BY status") == [("committed", times)]
    levels = [await level(admin, sku) for sku in SKUS]
    assert (sum(on_hand for on_hand, _ in levels), {reserved for _, reserved in levels}) == (len(SKUS) * UNITS, {0})
    assert await stock.reconcile(reading) == []
