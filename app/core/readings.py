"""What a scrape asks PostgreSQL: connections, transactions, jobs, what is late. Every process would say the same, so take the largest, never the sum."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
import structlog
from prometheus_client import Metric

from app.core.db import DirectConnection
from app.core.logging import reason_of

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric.

    Attributes:
        name: as it is exposed.
        help: what it says.
        query: gives the labels' values, in order, and the value.
        labels: their names.
        kind: of the metric.
    """

    name: str
    help: str
    query: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


UP = "stockroom_postgres_up"
UP_HELP = "Whether PostgreSQL has answered this scrape; if not, nothing else of it is there."

MOST_JOBS = 10_000
"""More that are due are not counted: counting a million takes PostgreSQL longer than a scrape may."""

READINGS = (
    Reading(
        "stockroom_postgres_connections",
        "Client connections of the whole server as PostgreSQL sees them, by what they call themselves and what they are at.",
        "SELECT application, state, count(*) FROM activity GROUP BY application, state",
        ("application", "state"),
    ),
    Reading(
        "stockroom_postgres_usable_connections",
        "Connections that the server has for ordinary roles: `max_connections` less what is reserved.",
        """SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0)""",
    ),
    Reading(
        "stockroom_postgres_longest_transaction_seconds",
        "How long the oldest open transaction of our role is open.",
        "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM activity",
    ),
    Reading(
        "stockroom_postgres_lock_waiters", "Connections of our role that wait for a lock.",
        "SELECT count(*) FROM activity WHERE wait_event_type = 'Lock'",
    ),
    Reading(
        "stockroom_postgres_transactions_total", "Transactions of this database, by how they ended.",
        "SELECT outcome, value FROM statistics, LATERAL (VALUES ('committed', xact_commit), ('rolled_back', xact_rollback)) AS part (outcome, value)",
        ("outcome",), "counter",
    ),
    Reading(
        "stockroom_postgres_blocks_total", "Blocks that this database read, by where they were found.",
        "SELECT source, value FROM statistics, LATERAL (VALUES ('cache', blks_hit), ('disk', blks_read)) AS part (source, value)",
        ("source",), "counter",
    ),
    Reading("stockroom_postgres_deadlocks_total", "Deadlocks in this database.", "SELECT deadlocks FROM statistics", kind="counter"),
    Reading(
        "stockroom_postgres_temporary_bytes_total", "What queries of this database wrote to disk because their memory did not suffice.",
        "SELECT temp_bytes FROM statistics", kind="counter",
    ),
    Reading("stockroom_postgres_database_bytes", "How large this database is on disk.", "SELECT pg_database_size(current_database())"),
    Reading("stockroom_jobs_due", f"Jobs that wait and whose time has come; at most {MOST_JOBS}.", "SELECT count(*) FROM due"),
    Reading(
        "stockroom_job_lag_seconds", "How long the oldest of them has waited.",
        """SELECT coalesce(max(extract(epoch FROM clock_timestamp() - coalesce(
            scheduled_at, (SELECT max(at) FROM procrastinate_events event WHERE event.job_id = oldest.id AND event.type = 'deferred')
        ))), 0) FROM (SELECT id, scheduled_at FROM due ORDER BY id LIMIT 100) AS oldest""",
    ),
    Reading("stockroom_jobs_running", "Jobs that are being worked on.", "SELECT count(*) FROM doing"),
    Reading(
        "stockroom_jobs_stalled", "Jobs that nobody works on any more although they are marked so: their worker has not been heard of for 30 seconds.",
        "SELECT count(*) FROM doing WHERE NOT EXISTS (SELECT FROM alive WHERE alive.id = doing.worker_id)",
    ),
    Reading("stockroom_job_workers", "Job workers that were heard of within 30 seconds.", "SELECT count(*) FROM alive"),
    Reading(
        "stockroom_reservation_expiry_lag_seconds", "How long the oldest reservation whose time is up still holds its stock.",
        "SELECT coalesce(extract(epoch FROM now() - min(expires_at)), 0) FROM reservation WHERE status = 'active' AND expires_at <= now()",
    ),
    Reading(
        "stockroom_import_rows_total", "Rows of imports, by what became of them: stored (those that changed nothing included) or failed.",
        """SELECT outcome, coalesce(import_total.rows, 0)
        FROM (VALUES ('stored'), ('failed')) AS known (outcome) LEFT JOIN import_total USING (outcome)""",
        ("outcome",), "counter",
    ),
)  # fmt: skip

# Of other roles' sessions only their existence and name can be seen. Background workers have no role; standbys take no slot of max_connections.
_COMMON = f"""
WITH activity AS MATERIALIZED (
    SELECT CASE WHEN application_name IN ('stockroom', 'stockroom-direct', 'stockroom-worker', 'stockroom-migrate') THEN application_name ELSE 'other' END
        AS application, coalesce(state, 'unknown') AS state, wait_event_type, xact_start
    FROM pg_stat_activity WHERE usesysid IS NOT NULL AND pid NOT IN (SELECT pid FROM pg_stat_replication)
), statistics AS MATERIALIZED (
    SELECT * FROM pg_stat_database WHERE datname = current_database()
), due AS MATERIALIZED (
    SELECT id, scheduled_at FROM procrastinate_jobs WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now())
    ORDER BY priority DESC, id LIMIT {MOST_JOBS}
), doing AS MATERIALIZED (
    SELECT worker_id FROM procrastinate_jobs WHERE status = 'doing'
), alive AS MATERIALIZED (
    SELECT id FROM procrastinate_workers WHERE last_heartbeat >= now() - interval '30 seconds'
)
"""  # noqa: S608 - constants of this module

_QUERY = _COMMON + "UNION ALL\n".join(
    f"SELECT '{reading.name}', ARRAY[{', '.join(reading.labels)}]::text[], value::float8"  # noqa: S608 - constants of this module
    f" FROM ({reading.query}) AS reading ({', '.join((*reading.labels, 'value'))})\n"
    for reading in READINGS
)


async def read_postgres(direct: DirectConnection) -> list[Metric]:
    """Ask, on the connection that is outside of the pool: a scrape takes no request's connection, and is answered when the pool is exhausted."""
    try:
        rows = await direct.fetch_all(_QUERY)
    except (psycopg.Error, TimeoutError, OSError) as error:
        _log.warning("postgres_unread", reason=reason_of(error))
        return unread()
    return [_up(1.0), *_metrics(rows)]


def unread() -> list[Metric]:
    """What there is to say when PostgreSQL does not answer."""
    return [_up(0.0)]


def _up(value: float) -> Metric:
    metric = Metric(UP, UP_HELP, "gauge")
    metric.add_sample(UP, {}, value)
    return metric


def _metrics(rows: Sequence[Any]) -> Iterable[Metric]:
    found: dict[str, list[tuple[list[str], float]]] = {}
    for name, labels, value in rows:
        found.setdefault(name, []).append((labels, value))
    for reading in READINGS:
        metric = Metric(reading.name.removesuffix("_total"), reading.help, reading.kind)
        for labels, value in found.get(reading.name, ()):
            metric.add_sample(reading.name, dict(zip(reading.labels, labels, strict=True)), value)
        if metric.samples:
            yield metric
