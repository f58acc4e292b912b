"""How many workers and database connections fit: arithmetic without I/O.

PostgreSQL refuses connection number `max_connections` + 1 whoever asks, so everything that can be connected at the worst moment of a
roll-out is added up beforehand. `plan` returns the sizes to run with, or says why nothing fits and which values would.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from app.capacity.arithmetic import Arithmetic, arithmetic, exact
from app.capacity.inputs import (
    BASE_MEMORY_MIB,
    CONNECTIONS_PER_DATABASE_CORE,
    MEMORY_PER_WORKER_MIB,
    MIB,
    PASSWORD_CPU_PERCENT,
    PASSWORD_HASHES_PER_WORKER,
    STANDING_PERCENT,
    WAITERS_CEILING,
    Inputs,
)
from app.capacity.refusing import Refusal, Suggestion, refusal

__all__ = ["Arithmetic", "Inputs", "Plan", "Refusal", "Suggestion", "plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The sizes to run with.

    Attributes:
        inputs: what it was made from.
        arithmetic: every number on the way.
        workers_per_pod: gunicorn's `workers`.
        pool_size: connections of each engine's pool.
        max_overflow: always 0; overflow connections are closed on return, which is a reconnect a request just when the load is highest.
        waiters_per_worker: requests that may wait for a connection; beyond them, refuse.
        password_hashes_per_worker: hashes that may run at once.
        pool_connections: all pools of all api workers at the peak.
        role_connections: all of ours that are connected to the server at the peak: what the role's `CONNECTION LIMIT` must allow.
        peak_connections: the same with other clients; never more than `arithmetic.usable_connections`.
        warnings: what fits but deserves a look, each with what to do.
    """

    inputs: Inputs
    arithmetic: Arithmetic
    workers_per_pod: int
    pool_size: int
    max_overflow: int
    waiters_per_worker: int
    password_hashes_per_worker: int
    pool_connections: int
    role_connections: int
    peak_connections: int
    warnings: tuple[str, ...]

    @property
    def standing_waiters_per_worker(self) -> int:
        """Of the waiters, those that there may be for more than a second."""
        return ceil(self.waiters_per_worker * STANDING_PERCENT / 100)

    @property
    def password_cores_per_worker(self) -> float:
        """Cores that hashing may take on average: a part of the worker's share of the CPU limit, of which it can use one core."""
        return min(1.0, self.inputs.cpu_limit_millicores / 1000 / self.workers_per_pod) * PASSWORD_CPU_PERCENT / 100


def plan(inputs: Inputs) -> Plan | Refusal:
    """Derive the sizes from the limits.

    With `pods = ceiling + ceil(surge) + terminating` for each Deployment, the budget is what PostgreSQL leaves to ordinary roles, less job
    workers, migration, other clients and the workers' connections outside their pools. Pools share it equally, up to what they can use.

    Returns:
        A `Plan` whose connections at the peak never pass `max_connections` less the reserved ones, nor the role's limit, nor PgBouncer's;
        a `Refusal` when a share is below two.
    """
    a = arithmetic(inputs)
    if not a.fits:
        return refusal(inputs, a)
    pool_size = min(a.cap_connections_per_pool, a.demand_connections_per_pool)
    pool_connections = a.peak_workers * inputs.engines_per_worker * pool_size
    api_connections = inputs.pgbouncer_server_connections or pool_connections + a.direct_connections
    waiters = int(pool_size * exact(inputs.wait_budget_ms) / exact(inputs.hold_time_ms))
    role_connections = api_connections + a.job_connections + inputs.migration_connections
    return Plan(
        inputs=inputs,
        arithmetic=a,
        workers_per_pod=a.workers_per_pod,
        pool_size=pool_size,
        max_overflow=0,
        waiters_per_worker=max(1, min(WAITERS_CEILING, waiters)),
        password_hashes_per_worker=PASSWORD_HASHES_PER_WORKER,
        pool_connections=pool_connections,
        role_connections=role_connections,
        peak_connections=role_connections + inputs.other_client_connections,
        warnings=tuple(_warnings(inputs, a, pool_size, pool_connections)),
    )


def _warnings(inputs: Inputs, a: Arithmetic, pool_size: int, pool_connections: int) -> Iterable[str]:
    needed_mib = BASE_MEMORY_MIB + a.workers_per_pod * MEMORY_PER_WORKER_MIB
    if inputs.memory_limit_bytes is not None and inputs.memory_limit_bytes < needed_mib * MIB:
        yield (
            f"a pod needs {needed_mib} MiB and its limit is"
            f" {inputs.memory_limit_bytes // MIB} MiB: raise it, or the kernel may kill the pod"
        )
    if a.busy_connections_per_worker is not None and a.busy_connections_per_worker > pool_size * inputs.engines_per_worker:
        yield (
            f"the load keeps {a.busy_connections_per_worker:g} connections busy in each worker and its pool has {pool_size}:"
            " shorten the hold time, or spread the load over more workers"
        )
    pools = (inputs.pgbouncer_server_connections or pool_connections) + a.job_connections
    if inputs.database_cores is not None and pools > (knee := CONNECTIONS_PER_DATABASE_CORE * inputs.database_cores):
        yield (
            f"all pools together are {pools} connections and {inputs.database_cores} database cores work well with up to {knee}:"
            " fewer replicas, or a larger server, may be faster"
        )
