"""Looks at the server's side once a second while a step runs."""

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg.rows import TupleRow

from loadtests.exchanges import Request
from loadtests.samples import Sample, sample_of
from loadtests.wire import Client

_SECOND = 1.0
_ANSWER_SECONDS = 5.0
_APPLICATION = "stockroom-loadtest"
# `usesysid` can be seen of every session; background workers have none. The load test's own connection is none of the service's.
_BACKENDS = f"""
SELECT count(*), count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE state = 'active' AND wait_event IS NULL)
FROM pg_stat_activity WHERE usesysid IS NOT NULL AND application_name <> '{_APPLICATION}'
"""


class Sampler:
    """Where to look.

    Args:
        metrics_url: where `/metrics` is. Every address that its host name has is asked, so that a headless Service shows all pods.
        database_url: of PostgreSQL, for `pg_stat_activity`; None to leave that out.
        postmaster: PostgreSQL's first process where it runs on this machine.
    """

    def __init__(self, metrics_url: str, database_url: str | None, *, postmaster: int | None = None) -> None:
        self._url = metrics_url
        self._database_url = database_url
        self._postmaster = postmaster

    @asynccontextmanager
    async def running(self) -> AsyncIterator[list[Sample]]:
        """Samples for as long as the block runs, the last one at its end. Seconds without an answer are left out."""
        clients = self._clients()
        database = await self._connect()
        samples: list[Sample] = []
        began = time.perf_counter()
        await self._look(clients, database, samples, began)
        task = asyncio.create_task(self._every_second(clients, database, samples, began))
        try:
            yield samples
        finally:
            task.cancel()
            await asyncio.wait({task})
            await self._look(clients, database, samples, began)
            for client in clients.values():
                client.close()
            if database is not None:
                await database.close()

    async def _every_second(
        self, clients: dict[str, Client], database: psycopg.AsyncConnection[TupleRow] | None, samples: list[Sample], began: float
    ) -> None:
        while True:
            await asyncio.sleep(_SECOND - (time.perf_counter() - began) % _SECOND)
            await self._look(clients, database, samples, began)

    async def _look(
        self, clients: dict[str, Client], database: psycopg.AsyncConnection[TupleRow] | None, samples: list[Sample], began: float
    ) -> None:
        texts = {}
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                for pod, client in clients.items():
                    answer = await client.ask(Request("GET /metrics", "GET", ""))
                    if answer.is_success:
                        texts[pod] = answer.body.decode()
                row = None if database is None else await (await database.execute(_BACKENDS)).fetchone()
        except (TimeoutError, psycopg.Error):
            return
        if texts:
            backends, active, on_cpu = row or (None, None, None)
            sample = sample_of(texts, at=time.perf_counter() - began)
            cpu = None if self._postmaster is None else _cpu_seconds(self._postmaster)
            samples.append(replace(sample, backends=backends, active=active, on_cpu=on_cpu, database_cpu_seconds=cpu))

    def _clients(self) -> dict[str, Client]:
        parts = urlsplit(self._url)
        try:
            found = socket.getaddrinfo(parts.hostname, parts.port or parts.scheme, type=socket.SOCK_STREAM)
        except OSError:
            return {}
        # An answer of both families is one and the same pod.
        family = found[0][0]
        addresses = dict.fromkeys(str(address[0]) for kind, _, _, _, address in found if kind == family)
        return {address: Client(self._url, address=address) for address in addresses}

    async def _connect(self) -> psycopg.AsyncConnection[TupleRow] | None:
        if self._database_url is None:
            return None
        return await psycopg.AsyncConnection.connect(
            self._database_url, autocommit=True, application_name=_APPLICATION, connect_timeout=5, prepare_threshold=None
        )


def _cpu_seconds(postmaster: int) -> float:
    """What a PostgreSQL server has used, backends that have ended included (proc(5), /proc/pid/stat, fields 14 to 17)."""
    total = _ticks(postmaster, slice(11, 15))
    try:
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    except OSError:
        return math.nan
    return (total + sum(_ticks(int(child), slice(11, 13)) for child in children)) / 100


def _ticks(pid: int, fields: slice) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return sum(map(int, stat.rpartition(")")[2].split()[fields]))
