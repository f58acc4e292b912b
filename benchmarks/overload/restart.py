"""PostgreSQL killed under load and started again: how soon all is well, and whether anything was lost or done twice.

Half of the clients read, half reserve and insist: a reservation that was not acknowledged is sent again with its key until it is.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import psutil
import psycopg
import uvloop

from benchmarks.client import exchange
from benchmarks.overload.figures import Bench, Figure
from benchmarks.overload.requests import reads, reservation
from benchmarks.serving import SERVE, Server, log_in, serving

_WORKERS = 2
_CLIENTS = 16
_BEFORE_SECONDS = 4.0
_AWAY_SECONDS = 2.0
_AFTER_SECONDS = 8.0
_WINDOW_SECONDS = 0.5
_FULL = 0.75
"""Of the rate before: what counts as full service."""


@dataclass(slots=True)
class Load:
    """What the clients did.

    Args:
        served: when each success came, by the monotonic clock.
        failed: when each failure came.
        acknowledged: the reservation that each request made; the request has the key in it.
    """

    served: list[float] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)
    acknowledged: dict[bytes, UUID] = field(default_factory=dict)


def measure(bench: Bench) -> list[Figure]:
    """Kill it once."""
    load = Load()
    with serving(SERVE, bench.variables(cpu_limit=_WORKERS), "/healthz", cores=bench.cores) as server:
        before = _reservations(bench)
        bearer = log_in(server)
        with bench.console.status("PostgreSQL dies …"), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            killed_at, back_at = runner.run(_kill(bench, server, bearer, load))
        replaced = set(psutil.Process(server.workers[0].ppid()).children()) ^ set(server.workers)
        replays = asyncio.run(_replays_that_differ(server.port, load))
    stored = _reservations(bench) - before
    acknowledged = set(load.acknowledged.values())
    books = subprocess.run(
        [sys.executable, "-m", "app.cli", "stock", "reconcile"], env=bench.environment, check=False, stdout=subprocess.DEVNULL
    )
    return [
        Figure("full service after PostgreSQL's return", _full_after(load, killed_at, back_at), at_most=3.0, unit="s"),
        Figure("requests not served while it was away", len(load.failed)),
        Figure("workers replaced", len(replaced), at_most=0),
        Figure("writes acknowledged", len(load.acknowledged), at_least=1),
        Figure("of these, lost", len(acknowledged - stored), at_most=0),
        Figure("reservations that nobody was told of", len(stored - acknowledged), at_most=0),
        Figure("keys whose replay differs", replays, at_most=0),
        Figure("`stockroom stock reconcile` ends with", books.returncode, at_most=0),
    ]


def _reservations(bench: Bench) -> set[UUID]:
    with psycopg.connect(bench.database.database_url) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM reservation")}


async def _kill(bench: Bench, server: Server, bearer: dict[str, str], load: Load) -> tuple[float, float]:
    over = asyncio.Event()
    clients = [asyncio.create_task(_client(bench, server.port, bearer, load, over, writes=number % 2 == 0)) for number in range(_CLIENTS)]
    await asyncio.sleep(_BEFORE_SECONDS)
    with psycopg.connect(bench.database.admin_url) as admin:
        postmaster = psutil.Process(admin.info.backend_pid).ppid()
    killed_at = time.monotonic()
    os.kill(postmaster, signal.SIGKILL)
    await asyncio.sleep(_AWAY_SECONDS)
    await asyncio.to_thread(bench.database.start)
    back_at = time.monotonic()
    await asyncio.sleep(_AFTER_SECONDS)
    over.set()
    await asyncio.gather(*clients)
    return killed_at, back_at


async def _client(bench: Bench, port: int, bearer: dict[str, str], load: Load, over: asyncio.Event, *, writes: bool) -> None:
    reading = reads(bench, bearer)
    connection, request = None, b""
    while request or not over.is_set():
        request = request or (reservation(bench, bearer, uuid4().hex) if writes else reading(1)[0])
        try:
            connection = connection or await asyncio.open_connection("127.0.0.1", port)
            status, _, body = await exchange(*connection, request)
        except (OSError, asyncio.IncompleteReadError):
            status, body, connection = 0, b"", None
        if 200 <= status < 300:
            load.served.append(time.monotonic())
            if writes:
                load.acknowledged[request] = UUID(json.loads(body)["id"])
            request = b""
        else:
            load.failed.append(time.monotonic())
            await asyncio.sleep(0.05)
    if connection is not None:
        connection[1].close()


def _full_after(load: Load, killed_at: float, back_at: float) -> float:
    """Seconds from PostgreSQL's return to the first window from which on nothing fails and all come back."""

    def rate(since: float) -> float:
        return sum(since <= at < since + _WINDOW_SECONDS for at in load.served) / _WINDOW_SECONDS

    usual = sum(killed_at - _BEFORE_SECONDS / 2 <= at < killed_at for at in load.served) / (_BEFORE_SECONDS / 2)
    since = max([back_at, *load.failed])
    while rate(since) < _FULL * usual:
        since += _WINDOW_SECONDS / 5
        if since > back_at + _AFTER_SECONDS:
            return float("inf")
    return since - back_at


async def _replays_that_differ(port: int, load: Load) -> int:
    """Sends every acknowledged reservation once more: a second effect would have another id."""
    waiting = iter(load.acknowledged.items())

    async def work() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        differing = 0
        for request, acknowledged in waiting:
            status, _, body = await exchange(reader, writer, request)
            differing += status != 201 or UUID(json.loads(body)["id"]) != acknowledged
        writer.close()
        return differing

    return sum(await asyncio.gather(*(work() for _ in range(_CLIENTS))))
