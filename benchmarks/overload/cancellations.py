"""Ten thousand requests whose clients leave at a random moment, under a deadline that ends many of the others: connections to PostgreSQL, then and after."""

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import psycopg
import uvloop
from pydantic import SecretStr

from app.core.config import Settings
from app.core.sizing import DIRECT_CONNECTIONS_PER_WORKER, accepted_plan, inputs_from, server_limits
from benchmarks.client import send_all
from benchmarks.overload.figures import Bench, Figure
from benchmarks.overload.requests import mix, reads
from benchmarks.serving import SERVE, log_in, serving

_REQUESTS = 10_000
_AT_ONCE = 64
_PATIENCE_SECONDS = 0.05
_DEADLINE_SECONDS = 0.05
_SAMPLE_SECONDS = 0.005
_QUIET_SECONDS = 30.0
_BACKENDS = "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity WHERE usename = 'stockroom'"


def measure(bench: Bench) -> list[Figure]:
    """Backends during and after."""
    url = bench.database.database_url
    plan = accepted_plan(inputs_from(Settings(_env_file=None, database_url=SecretStr(url), cpu_limit="1"), server_limits(url)))
    planned = plan.workers_per_pod * (plan.pool_size + DIRECT_CONNECTIONS_PER_WORKER)
    variables = bench.variables(request_timeout_seconds=_DEADLINE_SECONDS)
    with serving(SERVE, variables, "/healthz", cores={min(bench.cores)}) as server:
        bearer = log_in_patiently(bench)
        requests = mix(bench, bearer)(_REQUESTS)
        with bench.console.status(f"{_REQUESTS:,} clients who leave …"), _most_backends(bench) as most:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_leave(server.port, requests))
            metrics = _metrics_when_quiet(server.url)
        with psycopg.connect(bench.database.admin_url) as admin:
            ((left, busy),) = admin.execute(_BACKENDS).fetchall()
        held = metrics["stockroom_db_pool_checked_out"] + metrics["stockroom_requests_in_flight"] + busy
        ended = sum(value for name, value in metrics.items() if "_request_duration_seconds_count" in name and 'status="504"' in name)
        complete = _answers_at_once(server.port, reads(bench, bearer)(plan.pool_size))
    return [
        Figure("most backends at any time", most[0], at_most=planned),
        Figure("backends afterwards", left, at_most=planned),
        Figure("connections, places and transactions still held afterwards", held, at_most=0),
        Figure("the whole pool answers at once afterwards", complete, at_least=1),
        Figure("requests that the deadline ended as well", ended, at_least=1),
    ]


def log_in_patiently(bench: Bench) -> dict[str, str]:
    """A token of a server without the deadline, within which no password can be verified."""
    with serving(SERVE, bench.environment, "/healthz", cores={min(bench.cores)}) as server:
        return log_in(server)


async def _leave(port: int, requests: list[bytes]) -> None:
    waiting = iter(requests)

    async def work() -> None:
        for request in waiting:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            await asyncio.sleep(random.uniform(0, _PATIENCE_SECONDS))
            writer.transport.abort()

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))


@contextmanager
def _most_backends(bench: Bench) -> Iterator[list[int]]:
    most, over = [0], threading.Event()

    def sample() -> None:
        with psycopg.connect(bench.database.admin_url, autocommit=True) as admin:
            while not over.wait(_SAMPLE_SECONDS):
                most[0] = max(most[0], *(row[0] for row in admin.execute(_BACKENDS)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def _answers_at_once(port: int, requests: list[bytes]) -> bool:
    """Whether all of them are answered, within the deadline, at least once in some tries."""
    for _ in range(20):
        with suppress(AssertionError):
            asyncio.run(send_all(port, requests, connections=len(requests), expected_status=200))
            return True
    return False


def _metrics_when_quiet(url: str) -> dict[str, float]:
    """The server's metrics when it has worked off what the kernel had taken in for it, or at the latest after `_QUIET_SECONDS`."""
    end = time.monotonic() + _QUIET_SECONDS
    while True:
        lines = httpx.get(f"{url}/metrics", timeout=_QUIET_SECONDS).raise_for_status().text.splitlines()
        metrics = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}
        if metrics["stockroom_requests_in_flight"] == 0 or time.monotonic() > end:
            return metrics
        time.sleep(0.5)
