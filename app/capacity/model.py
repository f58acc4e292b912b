"""How many workers and database connections fit: arithmetic without I/O.

PostgreSQL refuses connection number `max_connections` + 1 whoever asks, so everything that can be connected at the worst moment of a
roll-out is added up beforehand. `plan` returns the sizes to run with, or says why nothing fits and which values would.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

MIB = 1024 * 1024

BASE_MEMORY_MIB = 60
"""What a pod uses before its first worker (the gunicorn arbiter). A placeholder until the load tests have measured it."""

MEMORY_PER_WORKER_MIB = 130
"""The most one worker uses under load, which `make bench` holds; the 19 MiB of a password hash are in it."""

PASSWORD_HASHES_PER_WORKER = 1
"""Hashes a worker runs at once: each takes a core while it runs, of which a worker has about one, and 19 MiB that its thread keeps."""

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
        job_connections: held by all job workers.
        direct_connections: held by all api workers outside their pools.
        budget_connections: left for the pools of all api workers. Negative when the rest alone is too much.
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
    job_connections: int
    direct_connections: int
    budget_connections: int
    cap_connections_per_pool: int
    busy_connections_per_worker: float | None
    demand_connections_per_pool: int


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
        peak_connections: everything connected at the peak, other clients included; never more than `arithmetic.usable_connections`.
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
    peak_connections: int
    warnings: tuple[str, ...]

    def explain(self) -> str:
        """Return the arithmetic and the settings as lines of text in aligned columns."""
        a = self.arithmetic
        hold_and_wait = f"{self.inputs.wait_budget_ms:g} ms wait / {self.inputs.hold_time_ms:g} ms hold"
        settings: list[_Row] = [
            (
                "pool size",
                self.pool_size,
                f"= min({a.cap_connections_per_pool}, {a.demand_connections_per_pool}); max_overflow {self.max_overflow}",
            ),
            ("all pools", self.pool_connections, f"= {a.peak_workers} workers x {self.inputs.engines_per_worker} pools x {self.pool_size}"),
            ("peak connections", self.peak_connections, f"of {a.usable_connections} usable"),
            ("waiters per worker", self.waiters_per_worker, f"= {self.pool_size} x {hold_and_wait}, within 1..{WAITERS_CEILING}"),
            ("hashes per worker", self.password_hashes_per_worker, "each takes a core and 19 MiB"),
        ]
        return "\n".join([*_columns([*_rows(self.inputs, a), *settings]), *(f"warning: {text}" for text in self.warnings)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A change of the inputs after which they are accepted.

    Attributes:
        changes: names of fields of `Inputs` with the values to set.
        reason: why that helps, in a few words.
    """

    changes: tuple[tuple[str, int], ...]
    reason: str

    def applied_to(self, inputs: Inputs) -> Inputs:
        """Return the inputs with the changes made."""
        return replace(inputs, **dict(self.changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why nothing fits, and what would.

    Attributes:
        inputs: what was asked.
        arithmetic: every number on the way.
        binding_input: the field of `Inputs` that takes the most connections; `max_connections` when nothing fits even without it.
        suggestions: each is enough on its own. Empty only when no single value would do.
        pgbouncer: what a PgBouncer in between would have to be set to.
    """

    inputs: Inputs
    arithmetic: Arithmetic
    binding_input: str
    suggestions: tuple[Suggestion, ...]
    pgbouncer: str

    def explain(self) -> str:
        """Return the arithmetic, what binds and what would fit, as lines of text in aligned columns."""
        cap = self.arithmetic.cap_connections_per_pool
        changes: list[_Row] = [(", ".join(f"{name}={value}" for name, value in s.changes), "->", s.reason) for s in self.suggestions]
        return "\n".join(
            [
                *_columns(_rows(self.inputs, self.arithmetic)),
                f"REFUSED: a pool needs at least {SMALLEST_POOL} connections and its share is {cap}.",
                f"What binds: {self.binding_input} = {getattr(self.inputs, self.binding_input)}",
                "What would fit, each on its own:",
                *(f"  {line}" for line in _columns(changes)),
                f"  PgBouncer {self.pgbouncer}",
            ]
        )


def plan(inputs: Inputs) -> Plan | Refusal:
    """Derive the sizes from the limits.

    With `pods = ceiling + ceil(surge) + terminating` for each Deployment, the budget is what PostgreSQL leaves to ordinary roles, less job
    workers, migration, other clients and the workers' connections outside their pools. Pools share it equally, up to what they can use.

    Returns:
        A `Plan` whose connections at the peak never pass `max_connections` less the reserved ones; a `Refusal` when a share is below two.
    """
    arithmetic = _arithmetic(inputs)
    if arithmetic.cap_connections_per_pool < SMALLEST_POOL:
        return _refusal(inputs, arithmetic)
    pool_size = min(arithmetic.cap_connections_per_pool, arithmetic.demand_connections_per_pool)
    pool_connections = arithmetic.peak_workers * inputs.engines_per_worker * pool_size
    return Plan(
        inputs=inputs,
        arithmetic=arithmetic,
        workers_per_pod=arithmetic.workers_per_pod,
        pool_size=pool_size,
        max_overflow=0,
        waiters_per_worker=int(max(1, min(WAITERS_CEILING, pool_size * inputs.wait_budget_ms / inputs.hold_time_ms))),
        password_hashes_per_worker=PASSWORD_HASHES_PER_WORKER,
        pool_connections=pool_connections,
        peak_connections=arithmetic.usable_connections - arithmetic.budget_connections + pool_connections,
        warnings=tuple(_warnings(inputs, arithmetic, pool_size, pool_connections)),
    )


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
    "migration_connections": (0, 1000),
    "other_client_connections": (0, MAX_CONNECTIONS_CEILING),
    "engines_per_worker": (1, 10),
    "direct_connections_per_worker": (0, 100),
    "arrival_rate_per_worker_per_second": (0, 1_000_000),
    "hold_time_ms": (0.01, 600_000),
    "wait_budget_ms": (0, 60_000),
    "database_cores": (1, 10_000),
}

_Row = tuple[str, int | str, str]


def _arithmetic(inputs: Inputs) -> Arithmetic:
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
    budget = usable - job_connections - inputs.migration_connections - inputs.other_client_connections - direct_connections
    busy, demand = _demand(inputs.arrival_rate_per_worker_per_second, inputs.hold_time_ms)
    return Arithmetic(
        workers_by_cpu=workers_by_cpu,
        workers_by_memory=workers_by_memory,
        workers_per_pod=workers_per_pod,
        peak_pods=peak_pods,
        peak_workers=peak_workers,
        peak_job_pods=peak_job_pods,
        usable_connections=usable,
        job_connections=job_connections,
        direct_connections=direct_connections,
        budget_connections=budget,
        cap_connections_per_pool=budget // (peak_workers * inputs.engines_per_worker),
        busy_connections_per_worker=busy,
        demand_connections_per_pool=demand,
    )


def _workers_by_memory(memory_limit_bytes: int | None) -> int | None:
    if memory_limit_bytes is None:
        return None
    return max(1, (memory_limit_bytes - BASE_MEMORY_MIB * MIB) // (MEMORY_PER_WORKER_MIB * MIB))


def _demand(arrival_rate_per_second: float | None, hold_time_ms: float) -> tuple[float | None, int]:
    if arrival_rate_per_second is None:
        return None, DEFAULT_DEMAND
    # One division of exact products (1000 ms x 70 %), so that 4.9 busy connections want 7 and not 8 for a rounding error's sake.
    wanted = ceil(arrival_rate_per_second * hold_time_ms / (10 * BUSY_PERCENT))
    return arrival_rate_per_second * hold_time_ms / 1000, max(SMALLEST_POOL, min(LARGEST_POOL, wanted))


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
    pools = pool_connections + a.job_connections
    if inputs.database_cores is not None and pools > (knee := CONNECTIONS_PER_DATABASE_CORE * inputs.database_cores):
        yield (
            f"all pools together are {pools} connections and {inputs.database_cores} database cores work well with up to {knee}:"
            " fewer replicas, or a larger server, may be faster"
        )


def _refusal(inputs: Inputs, a: Arithmetic) -> Refusal:
    return Refusal(
        inputs=inputs,
        arithmetic=a,
        binding_input=_binding_input(inputs, a.workers_per_pod),
        suggestions=tuple(_suggestions(inputs, a)),
        pgbouncer=_pgbouncer(inputs, a),
    )


def _binding_input(inputs: Inputs, workers_per_pod: int) -> str:
    workers = "workers_per_pod_ceiling" if inputs.workers_per_pod_ceiling == workers_per_pod else "cpu_limit_millicores"
    at_their_least: dict[str, dict[str, int]] = {
        workers: {"workers_per_pod_ceiling": 1},
        "replica_ceiling": {"replica_ceiling": 1, "terminating_pods": min(1, inputs.terminating_pods)},
        "job_replica_ceiling": {
            "job_replica_ceiling": min(1, inputs.job_replica_ceiling),
            "job_terminating_pods": min(1, inputs.job_terminating_pods),
        },
    }
    at_their_least |= {name: {name: 1} for name in ("engines_per_worker", "connections_per_job_worker")}
    at_their_least |= {name: {name: 0} for name in ("surge_pods", "terminating_pods", "job_surge_pods", "job_terminating_pods")}
    at_their_least |= {name: {name: 0} for name in ("direct_connections_per_worker", "migration_connections", "other_client_connections")}
    at_their_least |= {name: {name: 0} for name in ("superuser_reserved_connections", "reserved_connections")}
    needed = {name: _least_max_connections(replace(inputs, **changes)) for name, changes in at_their_least.items()}
    name = min(needed, key=needed.__getitem__)
    return name if needed[name] <= inputs.max_connections else "max_connections"


def _least_max_connections(inputs: Inputs, pool_size: int = SMALLEST_POOL) -> int:
    a = _arithmetic(inputs)
    return inputs.max_connections - a.budget_connections + a.peak_workers * inputs.engines_per_worker * pool_size


def _suggestions(inputs: Inputs, a: Arithmetic) -> Iterable[Suggestion]:
    per_worker = inputs.engines_per_worker * SMALLEST_POOL + inputs.direct_connections_per_worker
    workers_that_fit = (a.budget_connections + a.direct_connections) // per_worker
    if 1 <= (workers := workers_that_fit // a.peak_pods) < a.workers_per_pod:
        yield Suggestion(changes=(("workers_per_pod_ceiling", workers),), reason=f"fewer workers a pod, instead of {a.workers_per_pod}")

    pods = workers_that_fit // a.workers_per_pod - ceil(inputs.surge_pods)
    # No more pods drain than the ceiling allows, so lowering it below them lowers both.
    if 1 <= (replicas := max(pods - inputs.terminating_pods, pods // 2)) < inputs.replica_ceiling:
        yield Suggestion(
            changes=(("replica_ceiling", replicas), ("terminating_pods", min(replicas, inputs.terminating_pods))),
            reason=f"a lower ceiling, instead of {inputs.replica_ceiling}",
        )

    if (least := _least_max_connections(inputs)) <= MAX_CONNECTIONS_CEILING:
        ample, demand = _least_max_connections(inputs, a.demand_connections_per_pool), a.demand_connections_per_pool
        yield Suggestion(changes=(("max_connections", least),), reason=f"at least; {ample} for pools of {demand}; needs a restart")


def _pgbouncer(inputs: Inputs, a: Arithmetic) -> str:
    # LISTEN and the migration's advisory lock need a session of their own, so they go around a PgBouncer in transaction mode.
    beside = inputs.migration_connections + inputs.other_client_connections + a.peak_job_pods
    if (server_side := a.usable_connections - beside) < SMALLEST_POOL:
        return f"does not help: {beside} connections must go around it, and {a.usable_connections} are usable"
    pools = a.peak_workers * inputs.engines_per_worker * a.demand_connections_per_pool
    clients = pools + a.direct_connections + a.job_connections
    return f"in transaction mode: max_client_conn >= {clients}, default_pool_size x its replicas <= {server_side}"


def _rows(inputs: Inputs, a: Arithmetic) -> list[_Row]:
    i = inputs
    memory, demand = "no limit known", "what one process can keep busy; no arrival rate known"
    if i.memory_limit_bytes is not None:
        memory = f"= max(1, floor(({i.memory_limit_bytes // MIB} - {BASE_MEMORY_MIB}) / {MEMORY_PER_WORKER_MIB})) MiB"
    if a.busy_connections_per_worker is not None:
        demand = f"= ceil({a.busy_connections_per_worker:g} busy / {BUSY_PERCENT} %), within {SMALLEST_POOL}..{LARGEST_POOL}"
    ceiling = "" if i.workers_per_pod_ceiling is None else f", at most {i.workers_per_pod_ceiling} (workers_per_pod_ceiling)"
    reserved = f"{i.superuser_reserved_connections} superuser_reserved - {i.reserved_connections} reserved"
    return [
        ("workers by CPU", a.workers_by_cpu, f"= max(1, floor({i.cpu_limit_millicores} m / 1000 m))"),
        ("workers by memory", "-" if a.workers_by_memory is None else a.workers_by_memory, memory),
        ("workers per pod", a.workers_per_pod, f"= the smaller{ceiling}"),
        ("peak pods", a.peak_pods, _pods(i.replica_ceiling, i.surge_pods, i.terminating_pods)),
        ("peak workers", a.peak_workers, f"= {a.peak_pods} pods x {a.workers_per_pod} workers"),
        ("peak job pods", a.peak_job_pods, _pods(i.job_replica_ceiling, i.job_surge_pods, i.job_terminating_pods)),
        ("usable connections", a.usable_connections, f"= {i.max_connections} max - {reserved}"),
        ("- job workers", a.job_connections, f"= {a.peak_job_pods} pods x {i.connections_per_job_worker}"),
        ("- migration", i.migration_connections, ""),
        ("- other clients", i.other_client_connections, ""),
        ("- outside the pools", a.direct_connections, f"= {a.peak_workers} workers x {i.direct_connections_per_worker}"),
        ("= budget for pools", a.budget_connections, ""),
        ("cap per pool", a.cap_connections_per_pool, f"= floor({a.budget_connections} / {a.peak_workers * i.engines_per_worker} pools)"),
        ("demand per pool", a.demand_connections_per_pool, demand),
    ]


def _pods(replica_ceiling: int, surge_pods: float, terminating_pods: int) -> str:
    return f"= {replica_ceiling} replicas + {ceil(surge_pods)} surge + {terminating_pods} terminating"


def _columns(rows: Sequence[_Row]) -> list[str]:
    name_width = max((len(name) for name, _, _ in rows), default=0)
    value_width = max((len(str(value)) for _, value, _ in rows), default=0)
    return [f"{name:<{name_width}}  {value:>{value_width}}  {origin}".rstrip() for name, value, origin in rows]
