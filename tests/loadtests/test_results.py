"""Verdicts: what surely does not hold, what could not be told, and which of the two an exit code stands for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtests import results
from loadtests.__main__ import app
from loadtests.consistency import Check
from loadtests.deployment import Sizing
from loadtests.knee import Tried, found
from loadtests.objectives import Objectives, check
from loadtests.results import Judged, Result
from loadtests.steps import Step
from loadtests.sweep import Swept
from tests.loadtests.made import a_server, a_step, calibration

LIMITS = Objectives(p99_ms=100, pool_wait_p95_ms=50, connections="plan")
BROKEN = [Check("no level is oversold", ["A: 2 of 1"], 1)]


def a_result(step: Step, **fields: object) -> Result:
    return replace(
        Result(command="run", description="a pod", scenario="mixed", objectives=LIMITS, steps=[Judged(step, check(step, LIMITS))]),
        **fields,  # type: ignore[arg-type] # of Result
    )


def a_knee(*, predicted: float, top: Sequence[Step] | None = None, **fields: object) -> Result:
    """A knee at 400 a second, or steps of one's own, of a server of which low load predicts so much."""
    steps = [a_step(rate, p99_ms=20 if rate <= 400 else 900, **fields) for rate in (200, 400, 800)] if top is None else list(top)  # type: ignore[arg-type] # of Step
    kept = [Judged(step, check(step, LIMITS)) for step in steps]
    low = calibration(predicted, LIMITS)
    knee = found([Tried(judged.step, judged.failures) for judged in kept], low, LIMITS)
    return Result(command="knee", description="a pod", scenario="mixed", objectives=LIMITS, steps=kept, calibration=low, knee=knee)


def a_sweep(outcome: str, **fields: object) -> Result:
    swept = Swept(derived=Sizing(1, 5), cells=[], at_once=True, outcome=outcome, verdict=f"it is {outcome}")  # type: ignore[arg-type] # one of the three
    return replace(a_result(a_step()), command="sweep", sweep=swept, **fields)  # type: ignore[arg-type] # of Result


GOOD = a_step()
VOID = a_step(p99_ms=900, void="only 10 of 100 arrivals went out")
UNMEASURED = a_step(server=a_server(peak_connections=None))


@pytest.mark.parametrize(
    ("result", "failures", "untold"),
    [
        (a_result(GOOD), [], []),
        (a_result(a_step(p99_ms=900)), ["p99_ms: 900, over 100"], []),
        (a_result(a_step(p99_ms=None, served=0)), ["p99_ms: nothing was served"], []),
        (a_result(VOID), [], ["void: only 10 of 100 arrivals went out"]),
        (a_result(VOID, checks=BROKEN), ["no level is oversold: A: 2 of 1"], ["void: only 10 of 100 arrivals went out"]),
        (a_result(UNMEASURED), [], ["connections: not measured"]),
        (a_result(GOOD, sizing_faults=["too many workers"]), ["the sizing is wrong: too many workers"], []),
        (a_knee(predicted=400), [], []),
        (a_knee(predicted=330), [], []),
        (a_knee(predicted=310), ["what low load predicted is -22% off the knee's rate, more than 20%"], []),
        (a_knee(predicted=500), ["what low load predicted is +25% off the knee's rate, more than 20%"], []),
        (replace(a_knee(predicted=500), is_sketch=True), [], []),
        (a_knee(predicted=400, generator_cpu_per_request_ms=0.26), [], ["the generator costs 52% of the workers' CPU a request"]),
        (a_knee(predicted=400, top=[a_step(p99_ms=900)]), ["no rate that was tried met the objectives"], []),
        (a_knee(predicted=400, top=[VOID]), [], ["whether there is a knee cannot be told: void: only 10 of 100"]),
        (a_knee(predicted=400, top=[GOOD, a_step(200, void="the generator was saturated")]), [], ["the knee lies above 100 operations a second"]),
        (a_knee(predicted=400, top=[GOOD]), [], ["the knee lies above 100 operations a second, and where cannot be told: no rate that was tried"]),
        (replace(a_knee(predicted=400), took_seconds=301), [], []),
        (replace(a_knee(predicted=900), cut_short="nobody answers"), [], ["the search ended early: nobody answers"]),
        (a_sweep("shown"), [], []),
        (a_sweep("refuted"), ["it is refuted"], []),
        (a_sweep("not shown"), [], ["it is not shown"]),
        (a_sweep("not shown", is_sketch=True), [], []),
    ],
)  # fmt: skip
def test_verdicts_tell_what_does_not_hold_from_what_nobody_knows(
    result: Result, failures: list[str], untold: list[str], tmp_path: Path
) -> None:
    assert [text[: len(begins)] for text, begins in zip(result.failures, failures, strict=True)] == failures
    assert [text[: len(begins)] for text, begins in zip(result.untold, untold, strict=True)] == untold
    results.write(result, tmp_path / "result.json")
    done = CliRunner().invoke(app, ["report", str(tmp_path / "result.json"), "--output", str(tmp_path / "report.html")])
    assert done.exit_code == (1 if failures else 2 if untold else 0)
    last = done.output.splitlines()[-1]
    assert last.startswith("UNTOLD" if untold else "FAIL" if failures else "PASS")


def test_without_a_servers_side_nobody_can_say_that_the_sizes_are_right_or_what_the_generator_costs() -> None:
    limits = Objectives(p99_ms=100)
    step = replace(a_step(), server=None)
    blind = Result(command="run", description="a pod", scenario="mixed", objectives=limits, steps=[Judged(step, check(step, limits))])
    assert [reason[:27] for reason in blind.untold] == ["whether the sizes are right"]
    knee = a_knee(predicted=400)
    unseen = replace(knee, steps=[replace(judged, step=replace(judged.step, server=None)) for judged in knee.steps])
    assert [reason[:27] for reason in unseen.untold] == ["whether the sizes are right", "what the generator costs be"]


def test_books_that_could_not_be_looked_over_are_untold() -> None:
    result = a_result(GOOD, checks=[Check("a key sent again", [], 0, ["answered with 503"])])
    assert (result.failures, result.untold) == ([], ["a key sent again: answered with 503"])


def test_a_knee_takes_at_most_five_minutes_unless_its_steps_were_made_longer() -> None:
    slow = replace(a_knee(predicted=400, seconds=8), took_seconds=301)
    assert slow.failures == ["finding the knee took 301 s, at most 300 are allowed"]
    assert replace(slow, took_seconds=299).failures == []
    assert replace(a_knee(predicted=400, seconds=20), took_seconds=301).failures == []


def test_a_knee_that_low_load_cannot_predict_is_no_proof() -> None:
    steps = [Judged(step, check(step, LIMITS)) for step in (a_step(400), a_step(800, p99_ms=900))]
    knee = found([Tried(judged.step, judged.failures) for judged in steps], [], LIMITS)
    (reason,) = replace(a_knee(predicted=400), steps=steps, knee=knee).untold
    assert reason.startswith("low load predicts nothing")
