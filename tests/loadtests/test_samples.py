"""The server's side: pods are added up, and what follows is about the time between the samples."""

import math
from collections.abc import Mapping

import pytest

from loadtests.samples import ServerSide, quantile, sample_of, summed_up

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


def the_side(*looks: Mapping[str, str | None]) -> ServerSide:
    """What follows from looking once a second."""
    side = summed_up([sample_of(texts, at=at) for at, texts in enumerate(looks)])
    assert side is not None
    return side


def test_what_pods_say_is_added_up_but_for_the_plan_which_is_the_same_for_all() -> None:
    side = the_side({"a": a_pod(), "b": a_pod()}, {"a": a_pod(requests=10, cpu=0.1), "b": a_pod(requests=30, cpu=0.3)})
    assert (side.pods, side.workers, side.pool_size, side.checked_out, side.cpu_limit, side.planned_connections) == (2, 2, 10, 6, 2, 18)
    assert side.requests_by_worker == [0.75, 0.25]
    assert side.cpu_cores == pytest.approx(0.4)


def test_a_look_that_a_pod_did_not_answer_is_left_out_and_counted() -> None:
    both = [{"a": a_pod(n * 100, n * 0.2), "b": a_pod(n * 100, n * 0.2)} for n in range(4)]
    side = the_side(both[0], {**both[1], "b": None}, both[2], both[3])
    assert (side.pods, side.pool_size, side.looks, side.looks_left_out) == (2, 10, 4, 1)
    assert side.cpu_cores == pytest.approx(0.4)
    assert side.cpu_per_request_ms == pytest.approx(2)
    assert [moment.checked_out for moment in side.moments] == [6, 6]


def test_pods_that_come_and_go_meanwhile_count_for_what_they_did_meanwhile() -> None:
    old = [a_pod(1000 + 100 * n, 5 + 0.2 * n) for n in range(4)]
    side = the_side(
        {"old": old[0]}, {"old": old[1], "new": a_pod(7000, 9.0)}, {"old": old[2], "new": a_pod(7100, 9.2)}, {"new": a_pod(7200, 9.4)}
    )
    assert side.pods == 1
    assert side.cpu_cores == pytest.approx(0.8 / 3)
    assert side.cpu_per_request_ms == pytest.approx(2)


def test_a_pod_that_starts_anew_counts_from_nothing() -> None:
    side = the_side({"a": a_pod(500, 5.0)}, {"a": a_pod(600, 5.2)}, {"a": a_pod(100, 0.2)})
    assert side.cpu_cores == pytest.approx(0.2)


def test_when_most_looks_are_incomplete_nothing_is_known() -> None:
    one: dict[str, str | None] = {"a": a_pod(1, 1), "b": None}
    both: dict[str, str | None] = {"a": a_pod(1, 1), "b": a_pod(1, 1)}
    assert summed_up([sample_of(texts, at=at) for at, texts in enumerate([both, one, one, one, both])]) is None


def test_a_page_that_is_not_the_services_is_no_answer() -> None:
    assert not sample_of({"a": "node_cpu_seconds_total 5\n"}, at=0).is_whole


def test_being_held_back_is_a_share_of_the_time_of_the_pods() -> None:
    def throttled(seconds: float) -> str:
        return a_pod(1, 1) + f"stockroom_cgroup_cpu_throttled_seconds {seconds}\n"

    side = the_side(*({name: throttled(share * second) for name, share in (("a", 0.9), ("b", 0.5), ("c", 0.1))} for second in range(3)))
    assert side.throttled_share == pytest.approx(0.5)


def test_workers_of_one_pod_are_told_apart_by_pid() -> None:
    def workers(requests: float) -> str:
        return "".join(
            f'stockroom_worker_{name}{{pid="{pid}"}} {requests * pid}\n' for name in ("requests", "cpu_seconds") for pid in (1, 3)
        )

    assert the_side({"pod": workers(1)}, {"pod": workers(2)}).requests_by_worker == [0.75, 0.25]


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
    assert [moment.at for moment in side.moments] == [2, 3]


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


def test_what_was_seen_too_seldom_or_is_not_counted_is_not_measured() -> None:
    def looked(*backends: int | None, wait: str = "") -> ServerSide:
        side = summed_up([sample_of({"a": a_pod(at) + wait}, at=at, backends=found) for at, found in enumerate(backends)])
        assert side is not None
        return side

    assert looked(7, None, None).peak_connections is None
    assert looked(7, 9, None).peak_connections == 9
    assert looked(7, 9).wait_p95_ms is None
    assert looked(7, 9, wait='stockroom_db_pool_wait_seconds_bucket{le="+Inf"} 3\n').wait_p95_ms == 0


def test_one_sample_tells_nothing() -> None:
    assert summed_up([sample_of({"a": a_pod()}, at=0)]) is None


def test_a_quantile_lies_within_its_bucket_and_above_the_last_bound_is_that_bound() -> None:
    buckets = {0.1: 50.0, 0.2: 100.0, math.inf: 100.0}
    assert quantile(buckets, 0.75) == pytest.approx(0.15)
    assert quantile({0.1: 0.0, math.inf: 10.0}, 0.5) == pytest.approx(0.1)
    assert quantile({}, 0.5) == 0
