"""The search for the knee, the capacity that low load predicts, and the verdicts on sizes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.capacity import binding, predicted, sizing_faults
from loadtests.knee import PRECISION, Tried, found, search
from loadtests.objectives import Objectives
from loadtests.steps import Step
from tests.loadtests.made import a_server, a_step

LIMITS = Objectives()


def a_server_that_breaks_at(knee: float, tried: list[float]) -> Callable[[float], Tried]:
    def measure(rate: float) -> Tried:
        tried.append(rate)
        served = min(rate, knee)
        server = a_server(cpu_cores=0.05 + 0.9 * served / knee, lag_p99_ms=30)
        step = a_step(rate, served=served, mean_in_flight=0.002 * served if rate <= knee else 100, server=server)
        return Tried(step, ["p99_ms: over"] if rate > knee else [])

    return measure


@given(st.floats(20, 9000))
def test_the_knee_is_found_to_its_precision_in_few_steps(knee: float) -> None:
    rates: list[float] = []
    tried = list(search(a_server_that_breaks_at(knee, rates), 50))
    result = found(tried, [], LIMITS)
    assert result.rate <= knee
    assert result.first_failed is not None
    assert knee < result.first_failed <= result.rate * PRECISION
    assert len(rates) <= 24


def test_one_hiccup_is_no_knee() -> None:
    rates: list[float] = []
    sound = a_server_that_breaks_at(500, rates)

    def measure(rate: float) -> Tried:
        tried = sound(rate)
        return Tried(tried.step, ["a hiccup"]) if len(rates) == 2 else tried

    assert found(list(search(measure, 50)), [], LIMITS).rate > 450


def test_a_server_that_meets_nothing_has_no_knee() -> None:
    result = found(list(search(a_server_that_breaks_at(0.5, []), 50)), [], LIMITS)
    assert (result.rate, result.failures) == (0, ["p99_ms: over"])


def test_low_load_predicts_what_the_cpu_limit_allows() -> None:
    steps = [a_step(rate, server=a_server(cpu_cores=0.02 + 0.0008 * rate)) for rate in (100, 200, 300)]
    prediction = predicted(steps)
    assert prediction is not None
    assert prediction.cpu_per_operation_ms == pytest.approx(0.8)
    assert prediction.idle_cores == pytest.approx(0.02)
    assert prediction.rate == pytest.approx(0.98 / 0.0008)


def test_the_prediction_keeps_free_what_latencies_need() -> None:
    steps = [a_step(rate, server=a_server(cpu_cores=0.001 * rate)) for rate in (100, 200)]
    limits = Objectives(p50_ms=25, p95_ms=100, p99_ms=250)
    prediction = found([Tried(step, []) for step in steps], steps, limits).prediction
    assert prediction is not None
    # 95 % of the times in an M/M/1 queue are below 100 ms when it can serve 30 a second more than come: exp(-30 x 0.1) is 5 %.
    assert prediction.rate == pytest.approx(1000 - 29.96, abs=0.01)


@pytest.mark.parametrize(
    ("limits", "spare"),
    [(Objectives(), 0), (Objectives(p50_ms=10), 69.3), (Objectives(p99_ms=100, p95_ms=1000), 46.1), (Objectives(refused_rate=0.01), 0)],
)
def test_the_strictest_latency_says_how_much_that_is(limits: Objectives, spare: float) -> None:
    assert limits.spare_per_second == pytest.approx(spare, abs=0.1)


def test_a_server_that_cannot_meet_its_latencies_at_any_rate_is_predicted_to_serve_nothing() -> None:
    steps = [a_step(rate, server=a_server(cpu_cores=0.1 * rate)) for rate in (1, 2)]
    prediction = predicted(steps, spare_per_second=30)
    assert prediction is not None
    assert prediction.rate == 0


@given(st.floats(0.1, 8), st.floats(0.0001, 0.01))
def test_more_pods_are_predicted_to_serve_as_many_times_more(cores: float, cost: float) -> None:
    def rate(pods: int) -> float:
        prediction = predicted(
            [a_step(rate, server=a_server(pods=pods, cpu_limit=pods * cores, cpu_cores=cost * rate, hold_mean_ms=0)) for rate in (1, 2)],
            spare_per_second=cores / cost / 10,
        )
        assert prediction is not None
        return prediction.rate

    assert rate(3) == pytest.approx(3 * rate(1))
    assert rate(1) == pytest.approx(0.9 * cores / cost)


def test_a_machine_that_changes_its_pace_is_predicted_by_the_steps_beside_the_knee() -> None:
    before = [a_step(rate, server=a_server(cpu_cores=0.0005 * rate)) for rate in (100, 200)]
    later = [a_step(rate, server=a_server(cpu_cores=0.001 * rate)) for rate in (100, 200, 300)]
    tried = [Tried(a_step(400 + number), [] if number < 2 else ["too slow"], low) for number, low in enumerate(later)]
    prediction = found(tried, [*before, *later], LIMITS).prediction
    assert prediction is not None
    assert prediction.cpu_per_operation_ms == pytest.approx(1, rel=0.05)


def test_low_load_predicts_what_the_pool_allows_where_that_is_less() -> None:
    prediction = predicted([a_step(rate, server=a_server(cpu_cores=0.0001 * rate, pool_size=2, hold_mean_ms=10)) for rate in (100, 200)])
    assert prediction is not None
    assert prediction.rate == pytest.approx(200)


def test_high_load_predicts_nothing() -> None:
    assert predicted([a_step(rate, server=a_server(cpu_cores=0.9)) for rate in (100, 200)]) is None
    assert predicted([a_step(100, void="no"), a_step(200)]) is None


@pytest.mark.parametrize(
    ("says", "step"),
    [
        ("CPU of the workers", a_step(server=a_server(cpu_cores=0.95, checked_out=5, waiting=9))),
        ("the CPU limit", a_step(server=a_server(cpu_cores=0.8, throttled_share=0.3))),
        ("the connection pool", a_step(server=a_server(cpu_cores=0.4, checked_out=5, waiting=9))),
        ("the event loop", a_step(server=a_server(cpu_cores=0.4, lag_p99_ms=200))),
        ("PostgreSQL's CPU", a_step(server=a_server(cpu_cores=0.4, database_cpu_cores=0.97))),
        ("connections", a_step(server=a_server(peak_connections=30))),
        ("the generator", a_step(void="the generator was saturated: it used 97% of a core")),
        ("nothing is clear", a_step()),
    ],
)
def test_the_binding_resource_is_named(says: str, step: Step) -> None:
    assert binding(step).startswith(says)


def test_a_sound_sizing_has_no_faults() -> None:
    assert sizing_faults(a_server()) == []
    assert sizing_faults(a_server(pods=3, workers=3, cpu_limit=1.5, pool_size=15, planned_connections=40)) == []


def test_a_pool_of_one_is_told_apart() -> None:
    (fault,) = sizing_faults(a_server(pool_size=1, checked_out=1, waiting=20, wait_p95_ms=80))
    assert fault.startswith("the pools are too small")
    assert "80.0 ms" in fault


def test_four_workers_with_pools_of_fifty_on_one_core_are_told_apart() -> None:
    faults = sizing_faults(a_server(workers=4, pool_size=200, checked_out=9, peak_connections=30))
    assert [fault.partition(":")[0] for fault in faults] == ["the pools are too large", "too many workers", "connections do not fit"]
