"""The numbers on the way from the limits to a decision."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from app.capacity.inputs import (
    BASE_MEMORY_MIB,
    BUSY_PERCENT,
    DEFAULT_DEMAND,
    LARGEST_POOL,
    MEMORY_PER_WORKER_MIB,
    MIB,
    SMALLEST_POOL,
    Inputs,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Every number on the way to the decision, in the order in which they are computed.

    Attributes:
        workers_by_cpu: workers a pod that the CPU limit allows.
        workers_by_memory: workers a pod that the memory limit allows; None when there is no limit.
        workers_per_pod: workers a pod.
        peak_pods: api pods alive at the worst moment of a roll-out.
        peak_workers: api workers alive at that moment.
        peak_job_pods: job worker pods alive at that moment.
        usable_connections: what the server leaves to roles that are not special.
        our_connections: what it leaves to us: less other clients, and within the role's limit.
        job_connections: held by all job workers.
        direct_connections: held by all api workers outside their pools.
        budget_connections: left for the pools of all api workers, at the server or at PgBouncer. Negative when the rest alone is too much.
        spare_connections: with PgBouncer, what is left of ours at the server; negative when it does not fit. Without, None.
        cap_connections_per_pool: the budget's share for one pool.
        busy_connections_per_worker: connections in use on average (Little's law: arrival rate x hold time); None without an arrival rate.
        demand_connections_per_pool: what a pool should have if the budget allows.
    """

    workers_by_cpu: int
    workers_by_memory: int | None
    workers_per_pod: int
    peak_pods: int
    peak_workers: int
    peak_job_pods: int
    usable_connections: int
    our_connections: int
    job_connections: int
    direct_connections: int
    budget_connections: int
    spare_connections: int | None
    cap_connections_per_pool: int
    busy_connections_per_worker: float | None
    demand_connections_per_pool: int

    @property
    def fits(self) -> bool:
        """Whether every pool gets enough, and PgBouncer its connections."""
        return self.cap_connections_per_pool >= SMALLEST_POOL and (self.spare_connections or 0) >= 0


def arithmetic(inputs: Inputs) -> Arithmetic:
    """Compute all of them."""
    workers_by_cpu = max(1, inputs.cpu_limit_millicores // 1000)
    workers_by_memory = _workers_by_memory(inputs.memory_limit_bytes)
    workers_per_pod = min(limit for limit in (workers_by_cpu, workers_by_memory, inputs.workers_per_pod_ceiling) if limit is not None)

    # Kubernetes does not count terminating pods, so a roll-out briefly holds both generations (Deployment docs, "Rolling Update").
    peak_pods = inputs.replica_ceiling + ceil(inputs.surge_pods) + inputs.terminating_pods
    peak_job_pods = inputs.job_replica_ceiling + ceil(inputs.job_surge_pods) + inputs.job_terminating_pods
    peak_workers = peak_pods * workers_per_pod

    usable = inputs.max_connections - inputs.superuser_reserved_connections - inputs.reserved_connections
    job_connections = peak_job_pods * inputs.connections_per_job_worker
    direct_connections = peak_workers * inputs.direct_connections_per_worker
    ours = usable - inputs.other_client_connections
    if inputs.role_connection_limit is not None:
        ours = min(ours, inputs.role_connection_limit)
    spare = ours - job_connections - inputs.migration_connections - inputs.pgbouncer_server_connections
    clients = inputs.pgbouncer_max_client_connections
    budget = (spare if clients is None else clients) - direct_connections
    busy, demand = _demand(inputs.arrival_rate_per_worker_per_second, inputs.hold_time_ms)
    return Arithmetic(
        workers_by_cpu=workers_by_cpu,
        workers_by_memory=workers_by_memory,
        workers_per_pod=workers_per_pod,
        peak_pods=peak_pods,
        peak_workers=peak_workers,
        peak_job_pods=peak_job_pods,
        usable_connections=usable,
        our_connections=ours,
        job_connections=job_connections,
        direct_connections=direct_connections,
        budget_connections=budget,
        spare_connections=None if clients is None else spare,
        cap_connections_per_pool=budget // (peak_workers * inputs.engines_per_worker),
        busy_connections_per_worker=busy,
        demand_connections_per_pool=demand,
    )


def exact(number: float) -> Fraction:
    """The decimal number that was written, not the binary one nearest to it: 0.14 is 14/100."""
    return Fraction(str(number))


def _workers_by_memory(memory_limit_bytes: int | None) -> int | None:
    if memory_limit_bytes is None:
        return None
    return max(1, (memory_limit_bytes - BASE_MEMORY_MIB * MIB) // (MEMORY_PER_WORKER_MIB * MIB))


def _demand(arrival_rate_per_second: float | None, hold_time_ms: float) -> tuple[float | None, int]:
    if arrival_rate_per_second is None:
        return None, DEFAULT_DEMAND
    # In exact decimals, so that 4.9 busy connections want 7 and not 8 for a rounding error's sake.
    busy = exact(arrival_rate_per_second) * exact(hold_time_ms) / 1000
    return float(busy), max(SMALLEST_POOL, min(LARGEST_POOL, ceil(busy * 100 / BUSY_PERCENT)))
