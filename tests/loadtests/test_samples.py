"""The server's side: pods are added up, and what follows is about the time between the samples."""

import math

import pytest

from loadtests.samples import quantile, sample_of, summed_up

POD = """# HELP stockroom_db_pool_size Connections that the pools can open.
stockroom_db_pool_size 5.0
stockroom_db_pool_checked_out 3.0
stockroom_cpu_limit_cores 1.0
stockroom_planned_peak_connections 18.0
stockroom_worker_requests {requests}
stockroom_worker_cpu_seconds {cpu}
stockroom_db_pool_hold_seconds_bucket{{le="0.001",route="/a"}} {holds}
stockroom_db_pool_hold_seconds_bucket{{le="+Inf",route="/a"}} {holds}
stockroom_db_pool_hold_seconds_sum{{route="/a"}} {hold_seconds}
stockroom_db_pool_hold_seconds_count{{route="/a"}} {holds}
python_gc_objects_collected_total{{generation="0"}} 27.0
"""


def a_pod(requests: float = 0, cpu: float = 0, holds: float = 0, hold_seconds: float = 0) -> str:
    return POD.format(requests=requests, cpu=cpu, holds=holds, hold_seconds=hold_seconds)


def test_what_pods_say_is_added_up_but_for_the_plan_which_is_the_same_for_all() -> None:
    sample = sample_of({"10.0.0.1": a_pod(requests=10), "10.0.0.2": a_pod(requests=30)}, at=1)
    assert (sample.pods, sample.pool_size, sample.checked_out, sample.cpu_limit, sample.planned_connections) == (2, 10, 6, 2, 18)
    assert sorted(sample.requests.values()) == [10, 30]


def test_workers_of_one_pod_are_told_apart_by_pid() -> None:
    sample = sample_of({"pod": 'stockroom_worker_requests{pid="7"} 1.0\nstockroom_worker_requests{pid="8"} 3.0\n'}, at=0)
    assert sorted(sample.requests.values()) == [1, 3]


def test_costs_are_of_the_time_between_the_first_sample_and_the_last() -> None:
    samples = [
        sample_of({"a": a_pod(100, 5.0, 100, 1.0)}, at=1),
        sample_of({"a": a_pod(200, 5.2, 200, 1.3)}, at=2),
        sample_of({"a": a_pod(300, 5.5, 300, 1.6)}, at=3),
    ]
    side = summed_up(samples)
    assert side is not None
    assert side.cpu_cores == pytest.approx(0.25)
    assert side.cpu_per_request_ms == pytest.approx(2.5)
    assert side.hold_mean_ms == pytest.approx(3)
    assert side.holds_per_request == pytest.approx(1)
    assert [round(moment.requests_per_second) for moment in side.moments] == [100, 100]


def test_who_used_no_cpu_is_no_worker() -> None:
    def workers(requests: int) -> str:
        used = {"1": (0, 0.0), "2": (requests, 1.5), "3": (requests, 1.5)}
        lines = [
            f'stockroom_worker_requests{{pid="{pid}"}} {count}\nstockroom_worker_cpu_seconds{{pid="{pid}"}} {cpu}\n'
            for pid, (count, cpu) in used.items()
        ]
        return "".join(lines)

    side = summed_up([sample_of({"a": workers(0)}, at=0), sample_of({"a": workers(50)}, at=1)])
    assert side is not None
    assert side.workers == 2
    assert side.requests_by_worker == [0.5, 0.5]


def test_one_sample_tells_nothing() -> None:
    assert summed_up([sample_of({"a": a_pod()}, at=0)]) is None


def test_a_quantile_lies_within_its_bucket_and_above_the_last_bound_is_that_bound() -> None:
    buckets = {0.1: 50.0, 0.2: 100.0, math.inf: 100.0}
    assert quantile(buckets, 0.75) == pytest.approx(0.15)
    assert quantile({0.1: 0.0, math.inf: 10.0}, 0.5) == pytest.approx(0.1)
    assert quantile({}, 0.5) == 0
