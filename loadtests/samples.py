"""The server's side, second by second: its metrics, its backends in PostgreSQL, and what follows from them for a step."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Buckets = dict[float, float]
"""A histogram: how many observations so far did not exceed a bound; the last bound is infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What could be seen at one moment, all pods together.

    Attributes:
        at: in seconds since the step began.
        pods: how many answered.
        cpu_limit: cores that the plans were made for.
        pool_size: connections that the pools can open.
        checked_out: of them, in use.
        waiting: requests that wait for one.
        in_flight: requests that are being worked on.
        admission_limit: how many may be.
        refusals: requests refused at the door so far.
        requests: admitted so far, by worker.
        cpu_seconds: used so far, by worker.
        throttled_seconds: held back by the kernel so far.
        planned_connections: to the server at the worst moment, as planned.
        wait: histogram of the pool's wait, in seconds.
        hold: histogram of how long connections were held, in seconds.
        lag: histogram of the event loops' lag, in seconds.
        hold_seconds: all holds together so far.
        backends: clients connected to PostgreSQL; None when nobody asked it.
        active: of them, those that run a statement.
        on_cpu: of these, those that wait for nothing.
        database_cpu_seconds: used by PostgreSQL so far; None where it runs elsewhere.
    """

    at: float
    pods: int = 1
    cpu_limit: float = 0
    pool_size: float = 0
    checked_out: float = 0
    waiting: float = 0
    in_flight: float = 0
    admission_limit: float = 0
    refusals: float = 0
    requests: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    throttled_seconds: float = 0
    planned_connections: float = 0
    wait: Buckets = field(default_factory=dict)
    hold: Buckets = field(default_factory=dict)
    lag: Buckets = field(default_factory=dict)
    hold_seconds: float = 0
    backends: int | None = None
    active: int | None = None
    on_cpu: int | None = None
    database_cpu_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A sample as it is plotted; rates are since the sample before."""

    at: float
    requests_per_second: float
    cpu_cores: float
    checked_out: float
    waiting: float
    in_flight: float
    backends: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSide:
    """What the server's side was during a step. Times in milliseconds; 0 where nothing was observed.

    Attributes:
        pods: how many answered.
        workers: processes that answered.
        cpu_limit: cores they were planned for.
        cpu_cores: cores they used on average.
        cpu_per_request_ms: of the workers, an admitted request.
        requests_by_worker: shares of the admitted requests, the largest first.
        throttled_share: of the time.
        pool_size: of all pools.
        checked_out: the most seen at once.
        waiting: the most seen at once.
        wait_p95_ms: of checkouts.
        hold_mean_ms: of connections.
        holds_per_request: how often a request takes one, on average.
        lag_p99_ms: of the event loops.
        refused_at_the_door: requests.
        peak_connections: to PostgreSQL, the most seen at once; None when nobody asked it.
        planned_connections: the plan's peak.
        database_cpu_cores: that PostgreSQL used on average; None where it runs elsewhere.
        database_on_cpu: backends that ran a statement and waited for nothing, on average; None when nobody asked.
        moments: for the plots.
    """

    pods: int
    workers: int
    cpu_limit: float
    cpu_cores: float
    cpu_per_request_ms: float
    requests_by_worker: list[float]
    throttled_share: float
    pool_size: float
    checked_out: float
    waiting: float
    wait_p95_ms: float
    hold_mean_ms: float
    holds_per_request: float
    lag_p99_ms: float
    refused_at_the_door: float
    peak_connections: int | None
    planned_connections: float
    database_cpu_cores: float | None
    database_on_cpu: float | None
    moments: list[Moment]


def sample_of(texts: Mapping[str, str], *, at: float) -> Sample:
    """Add up what pods said.

    Args:
        texts: the body of `/metrics` by pod.
        at: when, in seconds.
    """
    sums: dict[str, float] = {}
    largest: dict[str, float] = {}
    by_worker: dict[str, dict[str, float]] = {"stockroom_worker_requests": {}, "stockroom_worker_cpu_seconds": {}}
    buckets: dict[str, Buckets] = {"wait": {}, "hold": {}, "lag": {}}
    for pod, text in texts.items():
        for line in text.splitlines():
            if not line.startswith("stockroom_"):
                continue
            series, _, value = line.rpartition(" ")
            name, _, labels = series.partition("{")
            if name in by_worker:
                by_worker[name][f"{pod} {labels.removesuffix('}')}"] = float(value)
            elif histogram := _BUCKETS.get(name):
                bound = float(labels[labels.index('le="') + 4 :].partition('"')[0])
                buckets[histogram][bound] = buckets[histogram].get(bound, 0) + float(value)
            elif name in _SUMMED:
                sums[name] = sums.get(name, 0) + float(value)
            elif name in _LARGEST:
                largest[name] = max(largest.get(name, 0), float(value))
    # Every name of `_SUMMED` is a field of floats.
    totals: dict[str, Any] = {field_name: sums.get(name, 0) for name, field_name in _SUMMED.items()}
    return Sample(
        at=at,
        pods=len(texts),
        requests=by_worker["stockroom_worker_requests"],
        cpu_seconds=by_worker["stockroom_worker_cpu_seconds"],
        planned_connections=largest.get("stockroom_planned_peak_connections", 0),
        wait=buckets["wait"],
        hold=buckets["hold"],
        lag=buckets["lag"],
        **totals,
    )


_SUMMED = {
    "stockroom_cpu_limit_cores": "cpu_limit",
    "stockroom_db_pool_size": "pool_size",
    "stockroom_db_pool_checked_out": "checked_out",
    "stockroom_db_pool_waiting": "waiting",
    "stockroom_requests_in_flight": "in_flight",
    "stockroom_admission_limit": "admission_limit",
    "stockroom_admission_refusals_total": "refusals",
    "stockroom_cgroup_cpu_throttled_seconds": "throttled_seconds",
    "stockroom_db_pool_hold_seconds_sum": "hold_seconds",
}
_LARGEST = {"stockroom_planned_peak_connections"}
_BUCKETS = {
    "stockroom_db_pool_wait_seconds_bucket": "wait",
    "stockroom_db_pool_hold_seconds_bucket": "hold",
    "stockroom_event_loop_lag_seconds_bucket": "lag",
}


def quantile(buckets: Mapping[float, float], share: float) -> float:
    """A quantile of a histogram, linear within its bucket, as Prometheus' `histogram_quantile` has it; 0 without observations."""
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return 0.0
    wanted, below, lower = share * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted and buckets[bound] > below:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (wanted - below) / (buckets[bound] - below)
        below, lower = buckets[bound], bound
    return lower


def summed_up(samples: Sequence[Sample]) -> ServerSide | None:
    """What they say about the time between the first and the last; None of fewer than two."""
    if len(samples) < 2:
        return None
    first, last = samples[0], samples[-1]
    seconds = last.at - first.at
    # gunicorn's arbiter has the metrics too, but never uses them.
    workers = [name for name, used in last.cpu_seconds.items() if used > 0]
    requests = {name: count for name, count in _increase(first.requests, last.requests).items() if name in workers}
    cpu = sum(_increase(first.cpu_seconds, last.cpu_seconds).values())
    served = sum(requests.values())
    wait, hold, lag = (_between(getattr(first, name), getattr(last, name)) for name in ("wait", "hold", "lag"))
    holds = hold.get(math.inf, 0.0)
    return ServerSide(
        pods=last.pods,
        workers=len(workers),
        cpu_limit=last.cpu_limit,
        cpu_cores=cpu / seconds,
        cpu_per_request_ms=_ratio(cpu * 1000, served),
        requests_by_worker=sorted((_ratio(count, served) for count in requests.values()), reverse=True),
        throttled_share=max(0.0, last.throttled_seconds - first.throttled_seconds) / seconds,
        pool_size=last.pool_size,
        checked_out=max(sample.checked_out for sample in samples),
        waiting=max(sample.waiting for sample in samples),
        wait_p95_ms=quantile(wait, 0.95) * 1000,
        hold_mean_ms=_ratio((last.hold_seconds - first.hold_seconds) * 1000, holds),
        holds_per_request=_ratio(holds, served),
        lag_p99_ms=quantile(lag, 0.99) * 1000,
        refused_at_the_door=last.refusals - first.refusals,
        peak_connections=max((sample.backends for sample in samples if sample.backends is not None), default=None),
        planned_connections=last.planned_connections,
        database_cpu_cores=_database_cores(first, last),
        database_on_cpu=_mean(sample.on_cpu for sample in samples if sample.on_cpu is not None),
        moments=[_moment(before, now) for before, now in pairwise(samples)],
    )


def _moment(before: Sample, now: Sample) -> Moment:
    seconds = now.at - before.at
    return Moment(
        at=now.at,
        requests_per_second=sum(_increase(before.requests, now.requests).values()) / seconds,
        cpu_cores=sum(_increase(before.cpu_seconds, now.cpu_seconds).values()) / seconds,
        checked_out=now.checked_out,
        waiting=now.waiting,
        in_flight=now.in_flight,
        backends=now.backends,
    )


def _increase(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    # A worker that was not there before has begun at 0.
    return {name: value - before.get(name, 0) for name, value in now.items()}


def _between(before: Mapping[float, float], now: Mapping[float, float]) -> Buckets:
    return {bound: value - before.get(bound, 0) for bound, value in now.items()}


def _database_cores(first: Sample, last: Sample) -> float | None:
    if first.database_cpu_seconds is None or last.database_cpu_seconds is None:
        return None
    return (last.database_cpu_seconds - first.database_cpu_seconds) / (last.at - first.at)


def _mean(values: Iterable[int]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
