"""Looks at the server's side once a second while a step runs."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SOCK_STREAM

import psycopg
from psycopg.rows import TupleRow

from loadtests.exchanges import Request, address_of
from loadtests.samples import Sample, sample_of
from loadtests.wire import Client

_SECOND = 1.0
_ANSWER_SECONDS = 2.0
_CONNECT_SECONDS = 5
_APPLICATION = "stockroom-loadtest"
# Of other roles' sessions a plain role cannot see the backend's type. The load test's own connection is none of the service's.
_BACKENDS = f"""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND coalesce(backend_type, 'client backend') = 'client backend' AND application_name <> '{_APPLICATION}'
"""


class Sampler:
    """Where to look.

    Args:
        metrics_url: where `/metrics` is. Every address that its host name has is asked, each time anew, so that a headless Service shows all pods,
            those that come meanwhile included.
        database_url: of PostgreSQL, for `pg_stat_activity`; None to leave that out.
        postmaster: PostgreSQL's first process where it runs on this machine.
    """

    def __init__(self, metrics_url: str, database_url: str | None, *, postmaster: int | None = None) -> None:
        self._url = metrics_url
        self._database_url = database_url
        self._postmaster = postmaster
        self._clients: dict[str, Client] = {}
        self._database: psycopg.AsyncConnection[TupleRow] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[list[Sample]]:
        """Samples for as long as the block runs, the last one at its end."""
        samples: list[Sample] = []
        # Once for nothing: it connects, which may take longer than looking.
        await self._look([], 0)
        began = time.perf_counter()
        await self._look(samples, began)
        task = asyncio.create_task(self._every_second(samples, began))
        try:
            yield samples
        finally:
            task.cancel()
            await asyncio.wait({task})
            await self._look(samples, began)
            for client in self._clients.values():
                client.close()
            if self._database is not None:
                await self._database.close()

    async def _every_second(self, samples: list[Sample], began: float) -> None:
        while True:
            await asyncio.sleep(_SECOND - (time.perf_counter() - began) % _SECOND)
            await self._look(samples, began)

    async def _look(self, samples: list[Sample], began: float) -> None:
        addresses = await self._addresses()
        texts, backends = await asyncio.gather(asyncio.gather(*map(self._text, addresses)), self._backends())
        sample = sample_of(
            dict(zip(addresses, texts, strict=True)),
            at=time.perf_counter() - began,
            backends=backends,
            database_cpu_seconds=None if self._postmaster is None else _cpu_seconds(self._postmaster),
        )
        samples.append(sample)

    async def _addresses(self) -> list[str]:
        parts = address_of(self._url)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port or parts.scheme, type=SOCK_STREAM)
        except OSError:
            return []
        # An answer of both families is one and the same pod.
        family = found[0][0]
        return list(dict.fromkeys(str(address[0]) for kind, _, _, _, address in found if kind == family))

    async def _text(self, address: str) -> str | None:
        client = self._clients.setdefault(address, Client(self._url, address=address))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await client.ask(Request("GET /metrics", "GET", ""))
        except TimeoutError:
            return None
        return answer.body.decode(errors="replace") if answer.is_success else None

    async def _backends(self) -> int | None:
        if self._database_url is None:
            return None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS + _CONNECT_SECONDS):
                if self._database is None or self._database.closed:
                    self._database = await psycopg.AsyncConnection.connect(
                        self._database_url,
                        autocommit=True,
                        application_name=_APPLICATION,
                        connect_timeout=_CONNECT_SECONDS,
                        prepare_threshold=None,
                    )
                row = await (await self._database.execute(_BACKENDS)).fetchone()
        except (TimeoutError, psycopg.Error):
            return None
        return None if row is None else int(row[0])


def _cpu_seconds(postmaster: int) -> float | None:
    """What a PostgreSQL server has used, backends that have ended included (proc(5), /proc/pid/stat, fields 14 to 17); None once it is gone."""
    total = _ticks(postmaster, slice(11, 15))
    try:
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    except OSError:
        return None
    return (total + sum(_ticks(int(child), slice(11, 13)) for child in children)) / 100


def _ticks(pid: int, fields: slice) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return sum(map(int, stat.rpartition(")")[2].split()[fields]))
