"""A step summed up: what is counted, what is void, what is refused and what is an error."""

import math

import pytest

from loadtests.exchanges import Answer, Kind, Request, kind_of
from loadtests.offering import Offered, Outcome
from loadtests.samples import Sample, sample_of
from loadtests.steps import Step, step_of


def an_outcome(due: float, latency: float = 0.01, *, late: float = 0.0, kind: Kind = "served", sent: bool = True) -> Outcome:
    if not sent:
        return Outcome("GET /", due, is_arrival=True, detail="dropped")
    return Outcome(
        "GET /", due, is_arrival=True, sent=due + late, finished=due + latency, kind=kind, status=200 if kind == "served" else 503
    )


def summed_up(outcomes: list[Outcome], *, cpu: float = 0.1, seconds: float = 10) -> Step:
    return step_of(Offered(outcomes, cpu), [], scenario="mixed", arrivals="constant", rate=10, seconds=seconds, seed=1)


def test_the_first_second_is_not_counted() -> None:
    step = summed_up([an_outcome(0.5, latency=0.3), *(an_outcome(1 + number / 10) for number in range(90))])
    assert (step.offered, step.total.requests) == (91, 90)
    assert step.total.max_ms == pytest.approx(10)
    assert step.served_per_second == pytest.approx(10)


def test_what_is_served_a_second_is_the_same_however_long_an_answer_takes() -> None:
    for latency in (0.01, 0.5, 1.0):
        step = summed_up([an_outcome(number / 10, latency=latency) for number in range(-20, 100)])
        assert step.served_per_second == pytest.approx(10)
        assert step.mean_in_flight == pytest.approx(10 * latency)


def test_a_step_of_which_nothing_counts_is_void() -> None:
    assert summed_up([an_outcome(0.5)]).void == summed_up([]).void == "no request was due after the warm-up"


def test_the_servers_side_is_that_of_the_step_and_not_of_what_came_before_or_after() -> None:
    def a_sample(at: float, cpu: float) -> Sample:
        return sample_of({"a": f"stockroom_worker_requests 1\nstockroom_worker_cpu_seconds {cpu}\n"}, at=at)

    samples = [a_sample(at, cpu) for at, cpu in ((0, 0), (0.95, 5), (2, 5.5), (3.1, 6), (4, 9), (9, 9))]
    step = step_of(Offered([an_outcome(2)], 0.1), samples, scenario="mixed", arrivals="constant", rate=10, seconds=3, seed=1)
    assert step.server is not None
    assert step.server.cpu_cores == pytest.approx(1 / (3.1 - 0.95))


def test_a_step_of_which_less_than_98_percent_went_out_is_void() -> None:
    good = [an_outcome(number / 10) for number in range(97)]
    assert summed_up([*good, an_outcome(9.8), an_outcome(9.9, sent=False)]).void == ""
    step = summed_up([*good, *(an_outcome(9.9, sent=False) for _ in range(3))])
    assert (step.void, step.dropped) == ("only 97 of 100 arrivals went out", 3)


def test_a_step_of_a_generator_that_was_saturated_or_late_is_void() -> None:
    good = [an_outcome(number / 10) for number in range(97)]
    assert "used 95% of a core" in summed_up(good, cpu=0.95).void
    step = summed_up([*good, *(an_outcome(5, late=0.2, latency=0.3) for _ in range(3))])
    assert (step.late, "3 of 100 arrivals went out more than 50 ms late" in step.void) == (3, True)


def test_refusals_and_errors_are_told_apart_and_have_no_latency() -> None:
    step = summed_up([an_outcome(2), an_outcome(2, latency=5, kind="refused"), an_outcome(2, latency=5, kind="error")])
    assert (step.total.refused, step.total.errors) == (1, 1)
    assert step.total.max_ms == pytest.approx(10)
    assert step.errors == {"GET /: 503": 1}
    assert summed_up([an_outcome(2, kind="refused")]).total.p99_ms is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(200), "served"),
        (Answer(409), "served"),
        (Answer(503, retry_after="1"), "refused"),
        (Answer(429, retry_after="5"), "refused"),
        (Answer(503), "error"),
        (Answer(500, retry_after="1"), "error"),
        (Answer(404), "error"),
        (Answer(0), "error"),
    ],
)
def test_told_to_come_back_is_refused_and_all_else_that_is_no_proper_answer_an_error(answer: Answer, kind: Kind) -> None:
    assert kind_of(Request("POST /", "POST", "/", fine=frozenset({409})), answer) == kind


def test_what_never_went_out_has_no_end() -> None:
    assert math.isinf(Outcome("GET /", 1.0, is_arrival=True).latency_ms)
