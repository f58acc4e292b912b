"""What holds a deployment back: the resource that binds, the capacity that low load predicts, and whether the sizes fit the machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from app.capacity.inputs import LARGEST_POOL, SMALLEST_POOL
from loadtests.samples import ServerSide
from loadtests.steps import Step

LOW_LOAD = 0.5
"""Up to this share of its CPU limit a deployment is under low load."""

_BUSY = 0.8
_THROTTLED = 0.1
_LONG_LAG_MS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The capacity that steps at low load predict, in operations a second.

    Attributes:
        cpu_per_operation_ms: what one more operation costs the workers.
        idle_cores: what they use without any.
        hold_per_operation_ms: how long one more operation holds connections, all its requests together.
        by_cpu: operations a second for which the CPU limit is enough, with those to spare that latencies need.
        by_pool: operations a second that the pools allow; None of operations that need no connection.
    """

    cpu_per_operation_ms: float
    idle_cores: float
    hold_per_operation_ms: float
    by_cpu: float
    by_pool: float | None

    @property
    def rate(self) -> float:
        """The smaller of both."""
        return self.by_cpu if self.by_pool is None else min(self.by_cpu, self.by_pool)


def predicted(steps: Sequence[Step], beside: Sequence[Step] = (), *, spare_per_second: float = 0) -> Prediction | None:
    """Predict the capacity from the steps at low load; None when fewer than two can be used, or say nothing.

    CPU use is a straight line over the rate (utilisation law): a constant that is there without requests, and the cost of each. Connections are busy for
    arrival rate x hold time (Little's law), and all of them can be at most.

    Args:
        steps: at low load, all of them: they tell the constant.
        beside: of them, those that were measured next to what is predicted, when the machine had its pace: they tell the cost; all unless given.
        spare_per_second: requests that must be able to be served beside those that come, so that a queue for the CPU stays short. There is one for each worker
            that has a core, and at least one a pod.
    """
    low = [
        (step, step.server)
        for step in steps
        if (server := step.server) and not step.void and server.cpu_cores <= LOW_LOAD * server.cpu_limit
    ]
    if len({step.rate for step, _ in low}) < 2:
        return None
    constant = max(0.0, _constant([(step.rate, server.cpu_cores) for step, server in low]))
    near = [(step, server) for step, server in low if step in beside] or low
    cost = sum(server.cpu_cores - constant for _, server in near) / sum(step.rate for step, _ in near)
    if cost <= 0:
        return None
    last = near[-1][1]
    requests = _requests_per_operation(steps)
    queues = max(last.pods, min(last.workers, int(last.cpu_limit)))
    hold_ms = median(server.hold_mean_ms * server.holds_per_request for _, server in near) * requests
    return Prediction(
        cpu_per_operation_ms=cost * 1000,
        idle_cores=constant,
        hold_per_operation_ms=hold_ms,
        by_cpu=max(0.0, (last.cpu_limit - constant) / cost - queues * spare_per_second / requests),
        by_pool=last.pool_size * 1000 / hold_ms if hold_ms else None,
    )


def binding(step: Step) -> str:
    """The resource that a step ran out of, in words; what is nearest to its limit when nothing is clear."""
    server = step.server
    if step.void and "generator" in step.void:
        return f"the generator: {step.void}"
    if server is None:
        return "unknown: the server's metrics could not be read"
    busy = server.cpu_cores / server.cpu_limit if server.cpu_limit else 0.0
    pool_is_full = server.pool_size > 0 and server.checked_out >= server.pool_size and server.waiting > 0
    if server.peak_connections is not None and server.peak_connections > server.planned_connections:
        return f"connections: {server.peak_connections} to PostgreSQL, {server.planned_connections:.0f} are planned"
    if server.throttled_share >= _THROTTLED:
        return f"the CPU limit: the kernel held the server back {server.throttled_share:.0%} of the time, at {busy:.0%} of {server.cpu_limit:g} cores"
    if busy >= _BUSY:
        return f"CPU of the workers: {server.cpu_cores:.2f} of {server.cpu_limit:g} cores"
    if server.lag_p99_ms >= _LONG_LAG_MS and not pool_is_full:
        return f"the event loop: it lags {server.lag_p99_ms:.0f} ms behind (p99), with the CPU at {busy:.0%}"
    if pool_is_full:
        return (
            f"the connection pool: all {server.pool_size:.0f} in use, up to {server.waiting:.0f} waiting{_at_p95(server)},"
            f" each held for {server.hold_mean_ms:.1f} ms; the workers' CPU was at {busy:.0%}"
        )
    if server.database_cpu_cores is not None and server.database_cpu_cores >= _BUSY:
        return f"PostgreSQL's CPU: {server.database_cpu_cores:.2f} cores"
    return f"nothing is clear: workers' CPU at {busy:.0%}, {server.checked_out:.0f} of {server.pool_size:.0f} connections in use"


def sizing_faults(server: ServerSide) -> list[str]:
    """What is wrong with a deployment's workers and pools as they were under load, with the figures that tell; empty when nothing is."""
    faults = []
    derived_workers = server.pods * max(1, int(server.cpu_limit / server.pods))
    pool = server.pool_size / max(1, server.workers)
    if pool < SMALLEST_POOL:
        faults.append(
            f"the pools are too small: {pool:.0f} connection a worker, at least {SMALLEST_POOL} are needed. Up to {server.waiting:.0f} requests waited"
            f" for it{_at_p95(server)}"
        )
    if pool > LARGEST_POOL:
        faults.append(
            f"the pools are too large: {pool:.0f} connections a worker, of which one process cannot keep more than {LARGEST_POOL} busy;"
            f" {server.checked_out:.0f} of all {server.pool_size:.0f} were ever in use at once"
        )
    if server.workers > derived_workers:
        faults.append(
            f"too many workers: {server.workers} take {server.cpu_limit:g} cores from each other, {derived_workers} would do."
            f" A request cost {server.cpu_per_request_ms:.2f} ms of CPU"
        )
    could_open = server.pool_size + server.workers
    if server.planned_connections and could_open > server.planned_connections:
        faults.append(
            f"connections do not fit: these pools and workers can open {could_open:.0f}, and {server.planned_connections:.0f} are planned at the peak"
            + ("" if server.peak_connections is None else f"; {server.peak_connections} were seen")
        )
    return faults


def _at_p95(server: ServerSide) -> str:
    return "" if server.wait_p95_ms is None else f", {server.wait_p95_ms:.1f} ms at p95"


def _requests_per_operation(steps: Sequence[Step]) -> float:
    offered = sum(step.rate * (step.seconds - 1) for step in steps)
    return sum(step.total.requests for step in steps) / offered if offered else 1.0


def _constant(points: Sequence[tuple[float, float]]) -> float:
    """Where the straight line nearest to the points (least squares) begins."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return mean_y - slope * mean_x
