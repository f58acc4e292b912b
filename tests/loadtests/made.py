"""Steps as they might have been, for tests of what is concluded from them."""

from typing import Any

from loadtests.consistency import Check
from loadtests.objectives import Objectives
from loadtests.samples import ServerSide
from loadtests.steps import Latencies, Step


def a_server(**fields: Any) -> ServerSide:
    """One pod of one core with a worker and a pool of five, which does nothing."""
    usual: dict[str, Any] = {
        "pods": 1,
        "workers": 1,
        "cpu_limit": 1.0,
        "cpu_cores": 0.01,
        "cpu_per_request_ms": 0.5,
        "requests_by_worker": [1.0],
        "throttled_share": 0.0,
        "pool_size": 5,
        "checked_out": 1,
        "waiting": 0,
        "wait_p95_ms": 0.2,
        "hold_mean_ms": 1.0,
        "holds_per_request": 1.0,
        "lag_p99_ms": 2.0,
        "refused_at_the_door": 0,
        "peak_connections": 7,
        "planned_connections": 18,
        "database_cpu_cores": 0.1,
        "looks": 10,
        "looks_left_out": 0,
        "moments": [],
    }
    return ServerSide(**usual | fields)


def problems(checks: list[Check]) -> list[str]:
    """All that books were found wrong in."""
    return [problem for check in checks for problem in check.problems]


def calibration(predicted: float, limits: Objectives) -> list[Step]:
    """Steps at low load, of a server of one core of which they predict so many operations a second with these limits."""
    cost = 1 / (predicted + limits.spare_per_second)
    return [a_step(rate, server=a_server(cpu_cores=rate * cost)) for rate in (50, 100)]


def a_step(
    rate: float = 100, *, p99_ms: float | None = 20, served: float | None = None, server: ServerSide | None = None, **fields: Any
) -> Step:
    """One that went well."""
    requests = round(rate * 9)
    latencies = {"p50_ms": p99_ms and p99_ms / 4, "p95_ms": p99_ms and p99_ms / 2, "p99_ms": p99_ms, "max_ms": p99_ms and p99_ms * 2}
    total = Latencies(name="all", requests=requests, errors=fields.pop("errors_seen", 0), refused=fields.pop("refused", 0), **latencies)
    usual: dict[str, Any] = {
        "scenario": "mixed",
        "arrivals": "poisson",
        "rate": rate,
        "seconds": 10,
        "seed": 1,
        "offered": round(rate * 10),
        "sent": round(rate * 10),
        "late": 0,
        "dropped": 0,
        "served_per_second": rate if served is None else served,
        "mean_in_flight": rate * 0.002,
        "generator_cpu": 0.1,
        "generator_cpu_per_request_ms": 0.1,
        "void": "",
        "total": total,
        "by_name": [total],
        "errors": {},
        "timeline": [],
        "server": server or a_server(),
    }
    return Step(**usual | fields)
