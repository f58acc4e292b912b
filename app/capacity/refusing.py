"""Why a deployment does not fit, and what would."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from typing import Any

from app.capacity.arithmetic import Arithmetic, arithmetic
from app.capacity.inputs import MAX_CONNECTIONS_CEILING, SMALLEST_POOL, Inputs


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
        binding_input: the field of `Inputs` that takes the most connections; the limit itself when nothing fits even without it.
        suggestions: each is enough on its own. Empty only when no single value would do.
        pgbouncer: what a PgBouncer in between would have to be set to; None when there is one already.
    """

    inputs: Inputs
    arithmetic: Arithmetic
    binding_input: str
    suggestions: tuple[Suggestion, ...]
    pgbouncer: str | None


def refusal(inputs: Inputs, a: Arithmetic) -> Refusal:
    """Say what binds and what would fit."""
    return Refusal(
        inputs=inputs,
        arithmetic=a,
        binding_input=_binding_input(inputs, a.workers_per_pod),
        suggestions=tuple(_suggestions(inputs, a)),
        pgbouncer=_pgbouncer(inputs, a),
    )


def _binding_input(inputs: Inputs, workers_per_pod: int) -> str:
    workers = "workers_per_pod_ceiling" if inputs.workers_per_pod_ceiling == workers_per_pod else "cpu_limit_millicores"
    at_their_least: dict[str, dict[str, Any]] = {
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
    at_their_least["role_connection_limit"] = {"role_connection_limit": None}
    if inputs.pgbouncer_server_connections:
        at_their_least["pgbouncer_server_connections"] = {"pgbouncer_server_connections": 1}
    lacking = {name: _lacking(replace(inputs, **changes)) for name, changes in at_their_least.items()}
    name = min(lacking, key=lacking.__getitem__)
    if lacking[name] <= 0:
        return name
    return "max_connections" if inputs.pgbouncer_max_client_connections is None else "pgbouncer_max_client_connections"


def _lacking(inputs: Inputs) -> int:
    """Connections that are missing, in the pools or for PgBouncer, whichever is worse; at most zero when all fits."""
    a = arithmetic(inputs)
    missing = _lacking_for_pools(inputs, a)
    return missing if a.spare_connections is None else max(missing, -a.spare_connections)


def _lacking_for_pools(inputs: Inputs, a: Arithmetic, pool_size: int = SMALLEST_POOL) -> int:
    return a.peak_workers * inputs.engines_per_worker * pool_size - a.budget_connections


def _suggestions(inputs: Inputs, a: Arithmetic) -> Iterable[Suggestion]:
    at_the_server = (
        tuple(_at_the_server(inputs, a, a.spare_connections)) if a.spare_connections is not None and a.spare_connections < 0 else ()
    )
    if a.cap_connections_per_pool >= SMALLEST_POOL:
        yield from at_the_server
    elif a.spare_connections is None or a.spare_connections >= 0:
        yield from _for_the_pools(inputs, a)
    else:
        for one, other in product(_for_the_pools(inputs, a), at_the_server[:1]):
            yield Suggestion(changes=one.changes + other.changes, reason=f"{one.reason}; {other.reason}")


def _for_the_pools(inputs: Inputs, a: Arithmetic) -> Iterable[Suggestion]:
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

    least = _higher_limits(inputs, a, _lacking_for_pools(inputs, a))
    if least:
        ample = dict(_higher_limits(inputs, a, _lacking_for_pools(inputs, a, a.demand_connections_per_pool)))
        name = least[0][0]
        enough = f"; {ample[name]} for pools of {a.demand_connections_per_pool}" if name in ample else ""
        yield Suggestion(changes=least, reason=f"at least{enough}")


def _at_the_server(inputs: Inputs, a: Arithmetic, spare: int) -> Iterable[Suggestion]:
    if (fewer := inputs.pgbouncer_server_connections + spare) >= 1:
        yield Suggestion(
            changes=(("pgbouncer_server_connections", fewer),),
            reason=f"smaller pools in PgBouncer, instead of {inputs.pgbouncer_server_connections}",
        )
    if changes := _higher_server_limits(inputs, a, -spare):
        yield Suggestion(changes=changes, reason="at least")


def _higher_limits(inputs: Inputs, a: Arithmetic, lacking: int) -> tuple[tuple[str, int], ...]:
    """What must be raised, and to what, for so many connections more in the pools; nothing when PostgreSQL does not go so high."""
    if inputs.pgbouncer_max_client_connections is not None:
        return (("pgbouncer_max_client_connections", inputs.pgbouncer_max_client_connections + lacking),)
    return _higher_server_limits(inputs, a, lacking)


def _higher_server_limits(inputs: Inputs, a: Arithmetic, lacking: int) -> tuple[tuple[str, int], ...]:
    needed = a.our_connections + lacking
    beside = inputs.max_connections - a.usable_connections + inputs.other_client_connections
    if needed + beside > MAX_CONNECTIONS_CEILING:
        return ()
    changes = []
    if needed + beside > inputs.max_connections:
        changes.append(("max_connections", needed + beside))
    if inputs.role_connection_limit is not None and needed > inputs.role_connection_limit:
        changes.append(("role_connection_limit", needed))
    return tuple(changes)


def _pgbouncer(inputs: Inputs, a: Arithmetic) -> str | None:
    if inputs.pgbouncer_max_client_connections is not None:
        return None
    # LISTEN and the migration's advisory lock need a session of their own, so they go around a PgBouncer in transaction mode.
    beside = a.job_connections + inputs.migration_connections
    if (server_side := a.our_connections - beside) < SMALLEST_POOL:
        return f"does not help: {beside} connections must go around it, and {a.our_connections} are ours"
    clients = a.peak_workers * inputs.engines_per_worker * a.demand_connections_per_pool + a.direct_connections
    return f"in transaction mode: max_client_conn >= {clients}, default_pool_size x its replicas <= {server_side}"
