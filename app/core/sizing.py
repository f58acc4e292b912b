"""The capacity plan of this process: what its machine, its settings and the live server say, put into the model."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import structlog
from psycopg.rows import TupleRow

from app.capacity.explaining import explain
from app.capacity.inputs import MAX_CONNECTIONS_CEILING
from app.capacity.limits import cpu_limit_millicores, memory_limit_bytes
from app.capacity.model import Inputs, Plan, Refusal, plan
from app.core.config import Settings
from app.core.logging import reason_of

CONNECTIONS_PER_JOB_WORKER = 6
"""`stockroom worker`: three in procrastinate's pool, its LISTEN, and two in the pool of the tasks' own database."""

DIRECT_CONNECTIONS_PER_WORKER = 1
"""A worker of the service, outside its pool: the connection of readiness and revocations."""

SERVER_LIMITS_QUERY = """
SELECT name, setting::int FROM pg_settings WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
UNION ALL SELECT 'role_connection_limit', rolconnlimit FROM pg_roles WHERE rolname = session_user AND rolconnlimit >= 0 AND NOT rolsuper
"""
"""Names and values of `ServerLimits`; anybody may read them. A superuser's limit is not enforced (PostgreSQL manual, CREATE ROLE)."""

# `usesysid` can be seen of every session, the role of background workers is null; standbys take no slot of max_connections (PostgreSQL 12).
_CONNECTED_QUERY = """
SELECT count(*) FILTER (WHERE usename = session_user), count(*) FILTER (WHERE usename <> session_user)
FROM pg_stat_activity WHERE usesysid IS NOT NULL AND pid <> pg_backend_pid()
AND pid NOT IN (SELECT pid FROM pg_stat_replication)
"""

_log = structlog.get_logger()


class CapacityError(Exception):
    """What is wanted does not fit. The text is the arithmetic, what binds, and what would fit."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How many connections a server takes. The defaults are PostgreSQL's own.

    Attributes:
        max_connections: its setting of that name.
        superuser_reserved_connections: its setting of that name.
        reserved_connections: its setting of that name; 0 before PostgreSQL 16.
        role_connection_limit: of the role that asked; None without a limit.
    """

    max_connections: int = 100
    superuser_reserved_connections: int = 3
    reserved_connections: int = 0
    role_connection_limit: int | None = None

    @classmethod
    def from_rows(cls, rows: Sequence[Any]) -> "ServerLimits":
        """What `SERVER_LIMITS_QUERY` found."""
        return cls(**dict(rows))


def server_limits(url: str) -> ServerLimits:
    """Ask the server.

    Raises:
        psycopg.OperationalError: it does not answer.
    """
    return ServerLimits.from_rows(_ask(url, SERVER_LIMITS_QUERY))


def connected_now(url: str) -> tuple[int, int]:
    """How many clients are connected to the server: of the URL's role, without this one, and of all others.

    Raises:
        psycopg.OperationalError: it does not answer.
    """
    [(ours, others)] = _ask(url, _CONNECTED_QUERY)
    return ours, others


def read_timeout_complaint(settings: Settings) -> str | None:
    """What is wrong with the time limit of reads behind a PgBouncer, which keeps none that a client sets; None when nothing is.

    Raises:
        psycopg.OperationalError: PgBouncer, or the server behind it, does not answer.
    """
    if not settings.is_behind_pgbouncer:
        return None
    if _ask(settings.require_database_url(), "SHOW statement_timeout") != [("0",)]:
        return None
    limit_ms = round(settings.statement_timeout_seconds * 1000)
    return f"reads have no time limit behind PgBouncer: in its [databases] set connect_query='SET statement_timeout = {limit_ms}'"


def _ask(url: str, query: LiteralString) -> list[TupleRow]:
    with psycopg.connect(url, connect_timeout=3, autocommit=True, application_name="stockroom-plan") as connection:
        return connection.execute(query).fetchall()


def inputs_from(settings: Settings, server: ServerLimits, **given: Any) -> Inputs:
    """The model's inputs: limits of this process's cgroup, the deployment as the settings describe it, and a server.

    Args:
        given: fields of `Inputs` to take instead.

    Raises:
        CapacityError: they contradict each other; says which.
    """
    try:
        found: dict[str, Any] = {
            "cpu_limit_millicores": cpu_limit_millicores(settings.cpu_limit).value,
            "memory_limit_bytes": memory_limit_bytes().value,
            "workers_per_pod_ceiling": settings.workers_ceiling,
            "replica_ceiling": settings.replica_ceiling,
            "surge_pods": settings.surge_pods,
            "terminating_pods": settings.terminating_pods,
            "job_replica_ceiling": settings.job_worker_pods,
            "job_surge_pods": 0,
            "job_terminating_pods": 0,
            "connections_per_job_worker": CONNECTIONS_PER_JOB_WORKER,
            "max_connections": server.max_connections,
            "superuser_reserved_connections": server.superuser_reserved_connections,
            "reserved_connections": server.reserved_connections,
            "role_connection_limit": server.role_connection_limit,
            "pgbouncer_max_client_connections": settings.pgbouncer_max_client_connections,
            "pgbouncer_server_connections": settings.pgbouncer_server_connections,
            "other_client_connections": settings.other_connections,
            "direct_connections_per_worker": DIRECT_CONNECTIONS_PER_WORKER,
            "arrival_rate_per_worker_per_second": settings.arrival_rate_per_worker_per_second,
            "hold_time_ms": settings.hold_time_ms,
            "wait_budget_ms": settings.wait_budget_ms,
            "database_cores": settings.database_cores,
        }
        return Inputs(**(found | given))
    except ValueError as error:
        raise CapacityError(f"the capacity settings contradict each other: {error}") from None


def accepted_plan(inputs: Inputs) -> Plan:
    """The plan for these inputs.

    Raises:
        CapacityError: they do not fit.
    """
    decision = plan(inputs)
    if isinstance(decision, Refusal):
        raise CapacityError(f"this capacity does not fit\n{explain(decision)}")
    return decision


def plan_from_environment(settings: Settings) -> Plan:
    """The plan for this process. While the server does not answer, its limits are assumed, until the boot check has asked it.

    Raises:
        CapacityError: what is wanted does not fit.
    """
    try:
        server = server_limits(settings.around_pgbouncer().require_database_url())
    except psycopg.OperationalError as error:
        server = _assumed_limits(settings)
        _log.warning("server_limits_assumed", reason=reason_of(error), max_connections=server.max_connections)
    # While PgBouncer does not answer, readiness says so.
    with suppress(psycopg.OperationalError):
        if complaint := read_timeout_complaint(settings):
            _log.warning("reads_without_time_limit", mend=complaint)
    return accepted_plan(inputs_from(settings, server))


def _assumed_limits(settings: Settings) -> ServerLimits:
    """PostgreSQL's defaults; for what cannot fit into those the largest that there can be, because a server that is away refuses nobody."""
    defaults = ServerLimits()
    fits = isinstance(plan(inputs_from(settings, defaults)), Plan)
    return defaults if fits else ServerLimits(max_connections=MAX_CONNECTIONS_CEILING)
