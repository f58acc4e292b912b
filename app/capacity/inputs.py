"""What a plan is made from, and the constants of the model."""

from dataclasses import dataclass

MIB = 1024 * 1024

BASE_MEMORY_MIB = 110
"""What a pod uses before its first worker: the gunicorn arbiter, 105 MiB of which 30 are mapped libraries. Held by `make bench-overload`."""

MEMORY_PER_WORKER_MIB = 90
"""The most that one worker uses beside what it shares with the arbiter: 50 MiB after a storm of logins, the 19 MiB of a hash included, and up to 25 more as
counting references copies shared pages over time. Held by `make bench-overload`."""

PASSWORD_HASHES_PER_WORKER = 1
"""Hashes a worker runs at once: each takes a core while it runs, of which a worker has about one, and 19 MiB that its thread keeps."""

PASSWORD_CPU_PERCENT = 50
"""Of a worker's share of the CPU limit, what hashing may take on average: the rest stays for the event loop, however many log in."""

SMALLEST_POOL = 2
"""Below this one slow query stalls the whole worker, so a smaller pool is refused."""

LARGEST_POOL = 10
"""More connections than one Python process can keep busy only cost PostgreSQL memory."""

DEFAULT_DEMAND = 5
"""Connections that one Python process can keep busy, taken when no arrival rate is known."""

BUSY_PERCENT = 70
"""How busy a pool may be on average; closer to 100 the queue grows without bound."""

WAITERS_CEILING = 1000
"""Most requests that may wait for a connection in one worker: each holds its body in memory."""

STANDING_PERCENT = 30
"""Of the waiters, those that may be there for more than a moment: a queue that stands makes all late and serves nobody sooner (RFC 8289, 3.1)."""

CONNECTIONS_PER_DATABASE_CORE = 10
"""Above this PostgreSQL loses more to switching than it gains (PostgreSQL wiki, "Number Of Database Connections")."""

MAX_CONNECTIONS_CEILING = 262_143
"""The largest `max_connections` that PostgreSQL accepts (its upper bound in `pg_settings.max_val`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the plan is made from. A field without a default is a fact of the deployment that nobody should forget.

    Attributes:
        cpu_limit_millicores: the CPU limit of one api pod; 1000 is one core.
        memory_limit_bytes: the memory limit of one api pod; None when there is none.
        workers_per_pod_ceiling: at most so many workers a pod, whatever CPU and memory allow; None for no ceiling.
        replica_ceiling: the most api pods ever wanted: the autoscaler's `maxReplicas`, or `replicas`.
        surge_pods: the Deployment's `maxSurge` in pods; of a percentage `percent * replica_ceiling / 100`. Rounded up as Kubernetes does.
        terminating_pods: old api pods that still drain while new ones start. Kubernetes does not count them; `replica_ceiling` is safe.
        job_replica_ceiling: as `replica_ceiling`, for the job workers' Deployment; 0 when there is none.
        job_surge_pods: as `surge_pods`, for the job workers.
        job_terminating_pods: as `terminating_pods`, for the job workers.
        connections_per_job_worker: all that one job worker pod holds: its pool and what it opens beside it.
        max_connections: the server's setting of that name.
        superuser_reserved_connections: the server's setting of that name.
        reserved_connections: the server's setting of that name (PostgreSQL 16 and later).
        role_connection_limit: the `CONNECTION LIMIT` of the role that all of ours connect as; None when it has none, or is a superuser.
        pgbouncer_max_client_connections: `max_client_conn` of all PgBouncers that stand before the server, together; None when there is none.
            The api workers connect to them, job workers and the migration go around them.
        pgbouncer_server_connections: what all of them together may open to the server: `default_pool_size` of each, added up.
        migration_connections: what the migrate job holds.
        other_client_connections: everything else on that server: exporters, backups, other services, a psql for you.
        engines_per_worker: pooled SQLAlchemy engines in one worker; copies made by `execution_options` share a pool and do not count.
        direct_connections_per_worker: what a worker holds outside its pools (the health check).
        arrival_rate_per_worker_per_second: requests that need the database, a worker; None when not known.
        hold_time_ms: how long a request holds its connection, on average. The default is that of a few small statements; measure yours.
        wait_budget_ms: how long a request should wait for a connection at most. The default is a delay that people hardly notice.
        database_cores: cores of the database server; None when not known.

    Raises:
        ValueError: a field is outside of what is allowed; names it.
    """

    cpu_limit_millicores: int
    memory_limit_bytes: int | None = None
    workers_per_pod_ceiling: int | None = None
    replica_ceiling: int
    surge_pods: float
    terminating_pods: int
    job_replica_ceiling: int
    job_surge_pods: float
    job_terminating_pods: int
    connections_per_job_worker: int
    max_connections: int
    superuser_reserved_connections: int = 3
    reserved_connections: int = 0
    role_connection_limit: int | None = None
    pgbouncer_max_client_connections: int | None = None
    pgbouncer_server_connections: int = 0
    migration_connections: int = 1
    other_client_connections: int = 0
    engines_per_worker: int = 1
    direct_connections_per_worker: int = 1
    arrival_rate_per_worker_per_second: float | None = None
    hold_time_ms: float = 10
    wait_budget_ms: float = 200
    database_cores: int | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in _ALLOWED.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} is {value}: give a number from {least} to {most}")
        if (reserved := self.superuser_reserved_connections + self.reserved_connections) >= self.max_connections:
            raise ValueError(
                f"superuser_reserved_connections + reserved_connections is {reserved}: give less than max_connections"
                f" ({self.max_connections}), as PostgreSQL itself demands"
            )
        if (self.pgbouncer_max_client_connections is None) != (self.pgbouncer_server_connections == 0):
            raise ValueError("give pgbouncer_max_client_connections and pgbouncer_server_connections both, or neither")


_ALLOWED: dict[str, tuple[float, float]] = {
    "cpu_limit_millicores": (1, 1_000_000),
    "memory_limit_bytes": (1, 2**60),
    "workers_per_pod_ceiling": (1, 1000),
    "replica_ceiling": (1, 10_000),
    "surge_pods": (0, 10_000),
    "terminating_pods": (0, 10_000),
    "job_replica_ceiling": (0, 10_000),
    "job_surge_pods": (0, 10_000),
    "job_terminating_pods": (0, 10_000),
    "connections_per_job_worker": (1, 1000),
    "max_connections": (1, MAX_CONNECTIONS_CEILING),
    "superuser_reserved_connections": (0, MAX_CONNECTIONS_CEILING),
    "reserved_connections": (0, MAX_CONNECTIONS_CEILING),
    "role_connection_limit": (0, MAX_CONNECTIONS_CEILING),
    "pgbouncer_max_client_connections": (1, 1_000_000),
    "pgbouncer_server_connections": (0, MAX_CONNECTIONS_CEILING),
    "migration_connections": (0, 1000),
    "other_client_connections": (0, MAX_CONNECTIONS_CEILING),
    "engines_per_worker": (1, 10),
    "direct_connections_per_worker": (0, 100),
    "arrival_rate_per_worker_per_second": (0, 1_000_000),
    "hold_time_ms": (0.01, 600_000),
    "wait_budget_ms": (0, 60_000),
    "database_cores": (1, 10_000),
}
