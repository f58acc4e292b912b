"""The server's side, second by second: its metrics, its backends in PostgreSQL, and what follows from them for a step."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

Buckets = dict[float, float]
"""A histogram: how many observations so far did not exceed a bound; the last bound is infinity."""

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What one pod's `/metrics` said.

    Attributes:
        cpu_limit: cores that its plan was made for.
        pool_size: connections that its pools can open.
        checked_out: of them, in use.
        waiting: requests that wait for one.
        refusals: requests refused at the door so far.
        requests: admitted so far, by worker.
        cpu_seconds: used so far, by worker.
        throttled_seconds: held back by the kernel so far.
        planned_connections: to PostgreSQL at the worst moment, of all pods together.
        wait: histogram of the pool's wait, in seconds.
        hold: histogram of how long connections were held, in seconds.
        lag: histogram of the event loops' lag, in seconds.
        hold_seconds: all holds together so far.
    """

    cpu_limit: float = 0
    pool_size: float = 0
    checked_out: float = 0
    waiting: float = 0
    refusals: float = 0
    requests: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    throttled_seconds: float = 0
    planned_connections: float = 0
    wait: Buckets = field(default_factory=dict)
    hold: Buckets = field(default_factory=dict)
    lag: Buckets = field(default_factory=dict)
    hold_seconds: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What could be seen at one moment.

    Attributes:
        at: in seconds since the step began.
        pods: those that answered, by address.
        missing: pods that are there and did not answer.
        backends: clients connected to PostgreSQL; None when nobody asked it.
        database_cpu_seconds: used by PostgreSQL so far; None where it runs elsewhere.
    """

    at: float
    pods: dict[str, Pod]
    missing: int = 0
    backends: int | None = None
    database_cpu_seconds: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every pod answered: a sum over fewer would be a step back that never happened."""
        return bool(self.pods) and not self.missing

    def total(self, name: str) -> float:
        """A gauge, all pods together."""
        values: list[float] = [getattr(pod, name) for pod in self.pods.values()]
        return sum(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A sample as it is plotted."""

    at: float
    checked_out: float
    waiting: float
    backends: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSide:
    """What the server's side was during a step. Times in milliseconds; 0 where nothing was observed.

    Attributes:
        pods: how many there were at the end.
        workers: processes that answered.
        cpu_limit: cores they were planned for.
        cpu_cores: cores they used on average.
        cpu_per_request_ms: of the workers, an admitted request.
        requests_by_worker: shares of the admitted requests, the largest first.
        throttled_share: of the time, the mean of the pods.
        pool_size: of all pools.
        checked_out: the most seen at once.
        waiting: the most seen at once.
        wait_p95_ms: of checkouts; None when no pod counts them.
        hold_mean_ms: of connections.
        holds_per_request: how often a request takes one, on average.
        lag_p99_ms: of the event loops.
        refused_at_the_door: requests.
        peak_connections: to PostgreSQL, the most seen at once; None when it was asked at less than half of the looks.
        planned_connections: the plan's peak.
        database_cpu_cores: that PostgreSQL used on average; None where it runs elsewhere.
        looks: how often all this was looked at.
        looks_left_out: of them, those to which a pod did not answer.
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
    wait_p95_ms: float | None
    hold_mean_ms: float
    holds_per_request: float
    lag_p99_ms: float
    refused_at_the_door: float
    peak_connections: int | None
    planned_connections: float
    database_cpu_cores: float | None
    looks: int
    looks_left_out: int
    moments: list[Moment]


def sample_of(
    texts: Mapping[str, str | None], *, at: float, backends: int | None = None, database_cpu_seconds: float | None = None
) -> Sample:
    """What pods said at one moment.

    Args:
        texts: the body of `/metrics` by pod; None of those that did not answer.
        at: when, in seconds.
        backends: clients connected to PostgreSQL.
        database_cpu_seconds: used by PostgreSQL so far.
    """
    pods = {name: pod for name, text in texts.items() if text is not None and (pod := _pod(text)) is not None}
    return Sample(at=at, pods=pods, missing=len(texts) - len(pods), backends=backends, database_cpu_seconds=database_cpu_seconds)


def _pod(text: str) -> Pod | None:
    """What one pod said; None of a page that is not the service's."""
    values: dict[str, float] = {}
    by_worker: dict[str, dict[str, float]] = {"requests": {}, "cpu_seconds": {}}
    buckets: dict[str, Buckets] = {"wait": {}, "hold": {}, "lag": {}}
    for line in text.splitlines():
        if not line.startswith("stockroom_"):
            continue
        series, _, value = line.rpartition(" ")
        name, _, labels = series.partition("{")
        if of_worker := _BY_WORKER.get(name):
            by_worker[of_worker][labels.removesuffix("}")] = float(value)
        elif histogram := _BUCKETS.get(name):
            bound = float(labels[labels.index('le="') + 4 :].partition('"')[0])
            buckets[histogram][bound] = buckets[histogram].get(bound, 0) + float(value)
        elif field_name := _VALUES.get(name):
            values[field_name] = values.get(field_name, 0) + float(value)
    if not by_worker["requests"]:
        return None
    # Every name of these is a field of its type.
    found: dict[str, Any] = {**values, **by_worker, **buckets}
    return Pod(**found)


_VALUES = {
    "stockroom_cpu_limit_cores": "cpu_limit",
    "stockroom_db_pool_size": "pool_size",
    "stockroom_db_pool_checked_out": "checked_out",
    "stockroom_db_pool_waiting": "waiting",
    "stockroom_admission_refusals_total": "refusals",
    "stockroom_cgroup_cpu_throttled_seconds": "throttled_seconds",
    "stockroom_db_pool_hold_seconds_sum": "hold_seconds",
    "stockroom_planned_peak_connections": "planned_connections",
}
_BY_WORKER = {"stockroom_worker_requests": "requests", "stockroom_worker_cpu_seconds": "cpu_seconds"}
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
    """What they say about the time between the first and the last; None when too few, or less than half of them, are whole."""
    whole = [sample for sample in samples if sample.is_whole]
    if len(whole) < 2 or 2 * len(whole) < len(samples):
        return None
    first, last = whole[0], whole[-1]
    seconds = last.at - first.at
    cpu = sum(_increase(whole, lambda pod: pod.cpu_seconds).values())
    requests = _increase(whole, lambda pod: pod.requests)
    # gunicorn's arbiter has the metrics too, but never uses them.
    workers = {(name, worker) for name, pod in last.pods.items() for worker, used in pod.cpu_seconds.items() if used > 0}
    by_worker = {worker: count for worker, count in requests.items() if worker in workers}
    served = sum(requests.values())
    hold = _by_bound(_increase(whole, lambda pod: pod.hold))
    holds = hold.get(math.inf, 0.0)
    hold_seconds = sum(_increase(whole, lambda pod: {"": pod.hold_seconds}).values())
    backends = [sample.backends for sample in samples if sample.backends is not None]
    throttled = _increase(whole, lambda pod: {"": pod.throttled_seconds}).values()
    return ServerSide(
        pods=len(last.pods),
        workers=len(workers),
        cpu_limit=last.total("cpu_limit"),
        cpu_cores=cpu / seconds,
        cpu_per_request_ms=_ratio(cpu * 1000, served),
        requests_by_worker=sorted((_ratio(count, sum(by_worker.values())) for count in by_worker.values()), reverse=True),
        throttled_share=_ratio(sum(min(1.0, held / seconds) for held in throttled), len(throttled)),
        pool_size=last.total("pool_size"),
        checked_out=max(sample.total("checked_out") for sample in whole),
        waiting=max(sample.total("waiting") for sample in whole),
        wait_p95_ms=quantile(_by_bound(_increase(whole, lambda pod: pod.wait)), 0.95) * 1000
        if all(pod.wait for pod in last.pods.values())
        else None,
        hold_mean_ms=_ratio(hold_seconds * 1000, holds),
        holds_per_request=_ratio(holds, served),
        lag_p99_ms=quantile(_by_bound(_increase(whole, lambda pod: pod.lag)), 0.99) * 1000,
        refused_at_the_door=sum(_increase(whole, lambda pod: {"": pod.refusals}).values()),
        peak_connections=max(backends) if 2 * len(backends) >= len(samples) else None,
        planned_connections=max(pod.planned_connections for pod in last.pods.values()),
        database_cpu_cores=_database_cores(first, last),
        looks=len(samples),
        looks_left_out=len(samples) - len(whole),
        moments=[_moment(sample) for sample in whole[1:]],
    )


def _moment(sample: Sample) -> Moment:
    return Moment(at=sample.at, checked_out=sample.total("checked_out"), waiting=sample.total("waiting"), backends=sample.backends)


def _increase(samples: Sequence[Sample], of: Callable[[Pod], Mapping[_Key, float]]) -> dict[tuple[str, _Key], float]:
    """By how much counters grew, by pod and key. What a pod had counted before it was first seen is none of the step's; who starts anew begins at 0."""
    grown: dict[tuple[str, _Key], float] = defaultdict(float)
    for before, now in pairwise(samples):
        for name in before.pods.keys() & now.pods.keys():
            earlier = of(before.pods[name])
            for key, value in of(now.pods[name]).items():
                since = earlier.get(key, 0.0)
                grown[name, key] += value - since if value >= since else value
    return grown


def _by_bound(grown: Mapping[tuple[str, float], float]) -> Buckets:
    buckets: Buckets = defaultdict(float)
    for (_, bound), count in grown.items():
        buckets[bound] += count
    return buckets


def _database_cores(first: Sample, last: Sample) -> float | None:
    if first.database_cpu_seconds is None or last.database_cpu_seconds is None:
        return None
    return (last.database_cpu_seconds - first.database_cpu_seconds) / (last.at - first.at)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
