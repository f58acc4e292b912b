"""The commands' work: steps in their order, with a progress bar, summed up as results."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from loadtests import capacity, objectives
from loadtests import knee as knees
from loadtests import sweep as sweeps
from loadtests.api import UnreachableError
from loadtests.arrivals import Arrivals
from loadtests.deployment import Deployment, Sizing
from loadtests.measuring import Bench, bench
from loadtests.objectives import Objectives
from loadtests.progress import Watched
from loadtests.results import Judged, Result
from loadtests.scenarios import SCENARIOS, Scenario
from loadtests.steps import Step

if TYPE_CHECKING:
    from loadtests.local import Machine

CALIBRATION = (2.0, 4.0, 6.0, 8.0)
"""Times the rate of the first step, in bursts: a low load, at which each operation costs what it costs under a high one."""

_SETTLE_SECONDS = 0.5
_PRIMER_SECONDS = 2.0
_SKETCH_PRECISION = 1.25
_OVERLOADED, _MOSTLY_REFUSED = 0.1, 0.4


class UnmeasuredError(Exception):
    """There are objectives that nothing can be held against here; the text says which, and how to mend it."""


def run(
    deployment: Deployment,
    scenario: Scenario,
    limits: Objectives,
    kind: Arrivals,
    *,
    rate: float,
    seconds: float,
    seed: int,
    console: Console,
) -> Result:
    """One step, held against the objectives."""
    began = time.monotonic()
    with bench(deployment, scenario, kind) as ready, Watched(console, 1) as watched:
        judged = _judged(watched.step(ready, rate, seconds, seed), limits)
        watched.say(judged)
        server = judged.step.server
        return Result(
            command="run",
            description=deployment.description,
            scenario=scenario.name,
            objectives=limits,
            steps=[judged],
            sizing_faults=capacity.sizing_faults(server) if server else [],
            binding=capacity.binding(judged.step),
            checks=ready.checked(),
            took_seconds=time.monotonic() - began,
        )


def knee(
    deployment: Deployment,
    scenario: Scenario,
    limits: Objectives,
    kind: Arrivals,
    *,
    start: float,
    seconds: float,
    seed: int,
    console: Console,
) -> Result:
    """Calibrate at low load, then search."""
    with bench(deployment, scenario, kind) as ready, Watched(console, 18) as watched:
        return _knee(ready, watched, limits, start=start, seconds=seconds, seed=seed)


def sweep(
    points: Sequence[Sizing],
    scenario: Scenario,
    limits: Objectives,
    *,
    rounds: int,
    overload: float,
    normal: float,
    seconds: float,
    console: Console,
) -> Result:
    """Every point once a round, on a server of its own."""
    from loadtests.local import machine

    with console.status("starting PostgreSQL …"), machine(max_connections=_connections(points)) as here:
        return _sweep(here, points, scenario, limits, rounds=rounds, overload=overload, normal=normal, seconds=seconds, console=console)


def trial(limits: Objectives, console: Console) -> list[Result]:
    """Sketches of the knee and of a sweep, and a run well below the knee, last; all short."""
    from loadtests.local import machine

    scenario, seconds = SCENARIOS["mixed"], 3.0
    with ExitStack() as stack:
        with console.status("starting PostgreSQL and a server …"):
            here = stack.enter_context(machine())
            deployment = stack.enter_context(here.running())
        with bench(deployment, scenario) as ready, Watched(console, 12) as watched:
            found = _knee(ready, watched, limits, start=50, seconds=seconds, seed=1, is_sketch=True)
        rate = found.knee.rate if found.knee else 0.0
        if not rate:
            return [found]
        swept = _sweep(
            here, [Sizing(2, 5)], scenario, limits, rounds=1, overload=1.4 * rate, normal=0.6 * rate, seconds=seconds, console=console
        )
        ran = run(deployment, scenario, limits, "poisson", rate=0.6 * rate, seconds=2 * seconds, seed=1, console=console)
    return [found, replace(swept, is_sketch=True), ran]


def _knee(
    ready: Bench, watched: Watched, limits: Objectives, *, start: float, seconds: float, seed: int, is_sketch: bool = False
) -> Result:
    began = time.monotonic()
    bursts = replace(ready, kind="bursts")
    calibration: list[Step] = []
    for factor in CALIBRATION:
        calibration.append(watched.step(bursts, factor * start, seconds, seed))
        if unmeasured := [str(finding) for finding in objectives.check(calibration[0], limits) if not finding.is_measured]:
            raise UnmeasuredError("; ".join(unmeasured))
    steps: list[Judged] = []

    def measure(rate: float) -> knees.Tried:
        judged = _judged(watched.step(ready, rate, seconds, seed + len(steps)), limits)
        watched.say(judged)
        steps.append(judged)
        # What an overload has left in the queues shall not be the next step's.
        time.sleep(_SETTLE_SECONDS)
        return knees.Tried(judged.step, judged.failures)

    predicted = capacity.predicted(calibration)
    first = start if predicted is None else max(start, predicted.rate / knees.FACTOR**2)
    precision = _SKETCH_PRECISION if is_sketch else knees.PRECISION
    found = knees.found(list(knees.search(measure, first, precision=precision)), calibration)
    highest = max((judged.step for judged in steps), key=lambda step: step.rate)
    return Result(
        command="knee",
        description=ready.deployment.description,
        scenario=ready.scenario.name,
        objectives=limits,
        steps=steps,
        calibration=calibration,
        knee=found,
        is_sketch=is_sketch,
        sizing_faults=capacity.sizing_faults(highest.server) if highest.server else [],
        checks=ready.checked(),
        took_seconds=time.monotonic() - began,
    )


def _sweep(
    here: "Machine",
    points: Sequence[Sizing],
    scenario: Scenario,
    limits: Objectives,
    *,
    rounds: int,
    overload: float,
    normal: float,
    seconds: float,
    console: Console,
) -> Result:
    began = time.monotonic()
    with here.running() as planned, bench(planned, scenario) as ready, Watched(console, rounds * 3 * len(points)) as watched:
        overload_found, derived = _more_than_can_be_served(ready, watched, overload, seconds)
        steps: list[Judged] = []
        rates = {1: overload_found}

        def visit(point: Sizing, group: int) -> sweeps.Visit:
            overload = rates.setdefault(group, _next_overload(rates.get(group - 1, overload_found), steps))
            with here.running(point) as deployment:
                at = replace(ready, deployment=deployment)
                # Until every connection has prepared its statements: the more there are the longer that takes, and it is over once.
                watched.step(at, overload, _PRIMER_SECONDS, group, f"{point}, group {group}")
                low = watched.step(at, normal, seconds, group, f"{point}, group {group}")
                high = watched.step(at, overload, seconds, group, f"{point}, group {group}")
            steps.extend(Judged(step, []) for step in (low, high))
            return sweeps.Visit(point, group, high, low)

        others = [point for point in dict.fromkeys(points) if point != derived]
        visited = list(sweeps.visits(others, derived, rounds, visit))
        return Result(
            command="sweep",
            description=planned.description,
            scenario=scenario.name,
            objectives=limits,
            steps=steps,
            sweep=sweeps.judged(visited, derived),
            checks=ready.checked(),
            took_seconds=time.monotonic() - began,
        )


def _more_than_can_be_served(ready: Bench, watched: Watched, rate: float, seconds: float) -> tuple[float, Sizing]:
    """A rate of which a good part is refused, and the sizes of the server that refused it: served whole, it would say nothing of the most that can be."""
    while True:
        step = watched.step(ready, rate, seconds, 1)
        if step.server is None:
            raise UnreachableError(f"{ready.deployment.metrics_url} does not answer")
        if step.void or step.total.refused_rate >= _OVERLOADED:
            return rate, Sizing(step.server.workers, round(step.server.pool_size / step.server.workers))
        rate *= 1.25


def _next_overload(rate: float, steps: Sequence[Judged]) -> float:
    """The rate for the next neighbours: higher or lower when the machine has become quicker or slower, so that a good part is refused, and not most."""
    refused = steps[-1].step.total.refused_rate if steps else _OVERLOADED
    return rate * 1.25 if refused < _OVERLOADED else rate / 1.25 if refused > _MOSTLY_REFUSED else rate


def _judged(step: Step, limits: Objectives) -> Judged:
    return Judged(step, objectives.check(step, limits))


def _connections(points: Sequence[Sizing]) -> int:
    """PostgreSQL's `max_connections` for the largest of them, and all others."""
    return max(100, 50 + max(point.workers * (point.pool + 1) for point in points))
