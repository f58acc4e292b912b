"""A decision in words and columns: every number, what binds, and what would fit."""

from collections.abc import Sequence
from math import ceil

from app.capacity.arithmetic import Arithmetic
from app.capacity.inputs import (
    BASE_MEMORY_MIB,
    BUSY_PERCENT,
    LARGEST_POOL,
    MEMORY_PER_WORKER_MIB,
    MIB,
    SMALLEST_POOL,
    STANDING_PERCENT,
    WAITERS_CEILING,
    Inputs,
)
from app.capacity.model import Plan, Refusal

_Row = tuple[str, int | str, str]


def explain(decision: Plan | Refusal) -> str:
    """The arithmetic in aligned columns, then the settings and warnings of a plan, or what binds and what would fit."""
    return _of_plan(decision) if isinstance(decision, Plan) else _of_refusal(decision)


def _of_plan(decision: Plan) -> str:
    i, a = decision.inputs, decision.arithmetic
    hold_and_wait = f"{i.wait_budget_ms:g} ms wait / {i.hold_time_ms:g} ms hold"
    cap_and_demand = f"= min({a.cap_connections_per_pool}, {a.demand_connections_per_pool}); max_overflow {decision.max_overflow}"
    settings: list[_Row] = [
        ("pool size", decision.pool_size, cap_and_demand),
        ("all pools", decision.pool_connections, f"= {a.peak_workers} workers x {i.engines_per_worker} pools x {decision.pool_size}"),
        ("role's connections", decision.role_connections, "all of ours at the server: its CONNECTION LIMIT must allow them"),
        ("peak connections", decision.peak_connections, f"of {a.usable_connections} usable"),
        ("waiters per worker", decision.waiters_per_worker, f"= {decision.pool_size} x {hold_and_wait}, within 1..{WAITERS_CEILING}"),
        ("for over a second", decision.standing_waiters_per_worker, f"= {STANDING_PERCENT} % of them; a standing queue makes all late"),
        (
            "hashes per worker",
            decision.password_hashes_per_worker,
            f"19 MiB each; on average {decision.password_cores_per_worker:g} of a core",
        ),
    ]
    return "\n".join([*_columns([*_rows(i, a), *settings]), *(f"warning: {text}" for text in decision.warnings)])


def _of_refusal(decision: Refusal) -> str:
    a = decision.arithmetic
    why = f"a pool needs at least {SMALLEST_POOL} connections and its share is {a.cap_connections_per_pool}."
    if a.cap_connections_per_pool >= SMALLEST_POOL:
        why = f"what PgBouncer may open is {-(a.spare_connections or 0)} more than the server has left."
    changes: list[_Row] = [(", ".join(f"{name}={value}" for name, value in s.changes), "->", s.reason) for s in decision.suggestions]
    return "\n".join(
        [
            *_columns(_rows(decision.inputs, a)),
            f"REFUSED: {why}",
            f"What binds: {decision.binding_input} = {getattr(decision.inputs, decision.binding_input)}",
            "What would fit, each on its own:",
            *(f"  {line}" for line in _columns(changes)),
            *([] if decision.pgbouncer is None else [f"  PgBouncer {decision.pgbouncer}"]),
        ]
    )


def _rows(i: Inputs, a: Arithmetic) -> list[_Row]:
    memory, demand = "no limit known", "what one process can keep busy; no arrival rate known"
    if i.memory_limit_bytes is not None:
        memory = f"= max(1, floor(({i.memory_limit_bytes // MIB} - {BASE_MEMORY_MIB}) / {MEMORY_PER_WORKER_MIB})) MiB"
    if a.busy_connections_per_worker is not None:
        demand = f"= ceil({a.busy_connections_per_worker:g} busy / {BUSY_PERCENT} %), within {SMALLEST_POOL}..{LARGEST_POOL}"
    ceiling = "" if i.workers_per_pod_ceiling is None else f", at most {i.workers_per_pod_ceiling} (workers_per_pod_ceiling)"
    return [
        ("workers by CPU", a.workers_by_cpu, f"= max(1, floor({i.cpu_limit_millicores} m / 1000 m))"),
        ("workers by memory", "-" if a.workers_by_memory is None else a.workers_by_memory, memory),
        ("workers per pod", a.workers_per_pod, f"= the smaller{ceiling}"),
        ("peak pods", a.peak_pods, _pods(i.replica_ceiling, i.surge_pods, i.terminating_pods)),
        ("peak workers", a.peak_workers, f"= {a.peak_pods} pods x {a.workers_per_pod} workers"),
        ("peak job pods", a.peak_job_pods, _pods(i.job_replica_ceiling, i.job_surge_pods, i.job_terminating_pods)),
        *_server_rows(i, a),
        *_pool_rows(i, a),
        ("cap per pool", a.cap_connections_per_pool, f"= floor({a.budget_connections} / {a.peak_workers * i.engines_per_worker} pools)"),
        ("demand per pool", a.demand_connections_per_pool, demand),
    ]


def _server_rows(i: Inputs, a: Arithmetic) -> list[_Row]:
    reserved = f"{i.superuser_reserved_connections} superuser_reserved - {i.reserved_connections} reserved"
    limit = "" if i.role_connection_limit is None else f", at most the role's {i.role_connection_limit}"
    return [
        ("usable connections", a.usable_connections, f"= {i.max_connections} max - {reserved}"),
        ("- other clients", i.other_client_connections, ""),
        ("= ours", a.our_connections, f"= {a.usable_connections} - {i.other_client_connections}{limit}"),
        ("- job workers", a.job_connections, f"= {a.peak_job_pods} pods x {i.connections_per_job_worker}"),
        ("- migration", i.migration_connections, ""),
    ]


def _pool_rows(i: Inputs, a: Arithmetic) -> list[_Row]:
    direct: _Row = ("- outside the pools", a.direct_connections, f"= {a.peak_workers} workers x {i.direct_connections_per_worker}")
    budget: _Row = ("= budget for pools", a.budget_connections, "")
    if i.pgbouncer_max_client_connections is None:
        return [direct, budget]
    return [
        ("- PgBouncer", i.pgbouncer_server_connections, "what it may open to the server"),
        ("= spare", a.spare_connections or 0, ""),
        ("PgBouncer's clients", i.pgbouncer_max_client_connections, "max_client_conn"),
        direct,
        budget,
    ]


def _pods(replica_ceiling: int, surge_pods: float, terminating_pods: int) -> str:
    return f"= {replica_ceiling} replicas + {ceil(surge_pods)} surge + {terminating_pods} terminating"


def _columns(rows: Sequence[_Row]) -> list[str]:
    name_width = max((len(name) for name, _, _ in rows), default=0)
    value_width = max((len(str(value)) for _, value, _ in rows), default=0)
    return [f"{name:<{name_width}}  {value:>{value_width}}  {origin}".rstrip() for name, value, origin in rows]
