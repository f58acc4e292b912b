"""The job worker's metrics, and where they are scraped. What PostgreSQL knows of jobs is told by the api (app/core/readings.py): also when no worker runs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from procrastinate import JobContext
from procrastinate.worker import Worker
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Metric, start_http_server
from prometheus_client.registry import Collector

from app.core.config import Settings, SettingsError
from app.core.exposition import build_info

JOBS_TOTAL = Counter(
    "stockroom_jobs_total", "Jobs that this worker has ended, by task and outcome: succeeded, failed, or interrupted.", ["task", "outcome"]
)
JOB_DURATION_SECONDS = Histogram(
    "stockroom_job_duration_seconds", "How long jobs took, by task.", ["task"], buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)
)

# The rest of what is declared is the api's, and would be zeros here.
TOLD = frozenset(
    {
        "stockroom_jobs",
        "stockroom_job_duration_seconds",
        "stockroom_reservations",
        "stockroom_db_pool_wait_seconds",
        "stockroom_db_pool_hold_seconds",
        "stockroom_db_pool_timeouts",
    }
)
"""The families that a worker tells beside those of its process."""


async def measured(call_next: Callable[[], Awaitable[Any]], context: JobContext, _worker: Worker) -> Any:
    """Run a job, and count it: procrastinate's middleware around every one."""
    task, outcome, started = context.job.task_name, "failed", time.perf_counter()
    try:
        result = await call_next()
        outcome = "succeeded"
    except asyncio.CancelledError:
        outcome = "interrupted"
        raise
    finally:
        JOBS_TOTAL.labels(task, outcome).inc()
        JOB_DURATION_SECONDS.labels(task).observe(time.perf_counter() - started)
    return result


@contextmanager
def served(settings: Settings, tasks: Iterable[str]) -> Iterator[None]:
    """Serve `/metrics` for as long as the block runs, where `APP_WORKER_METRICS_PORT` says so.

    Args:
        tasks: which there are; they are told from the start, at zero.

    Raises:
        SettingsError: the port is taken, or the address not one of this machine's.
    """
    if settings.worker_metrics_port is None:
        yield
        return
    for task in tasks:
        JOB_DURATION_SECONDS.labels(task)
        for outcome in ("succeeded", "failed"):
            JOBS_TOTAL.labels(task, outcome)
    registry = CollectorRegistry()
    registry.register(_Told())
    try:
        server, thread = start_http_server(settings.worker_metrics_port, settings.host, registry)
    except OSError as error:
        raise SettingsError(
            f"cannot serve metrics on {settings.host} port {settings.worker_metrics_port}: {error.strerror}\n"
            "  set APP_WORKER_METRICS_PORT to another port"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Told(Collector):
    def collect(self) -> Iterator[Metric]:
        yield build_info("worker")
        for metric in REGISTRY.collect():
            if metric.name in TOLD or metric.name.startswith("process_"):
                yield metric
