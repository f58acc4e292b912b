"""The commands' work: steps in their order, with a progress bar, summed up as results."""

import time
from collections.abc import Iterator, Sequence
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

CALIBRATION = (2.0, 4.0, 3.0, 5.0)
"""Times the rate of the first step, in bursts: a low load, at which each operation costs what it costs under a high one."""

_LOW_SECONDS = 4.0
_SETTLE_SECONDS = 0.5
_PRIMER_SECONDS = 2.0
_SKETCH_PRECISION = 1.25

_AIMED_AT_LEAST, _AIMED_AT_MOST = 0.1, 0.3
"""What is to be refused under overload: within what counts, with room for a machine that changes its pace."""
_OVERLOAD_FACTOR = 1.2
_MOST_SEARCHES = 20


class UnmeasuredError(Exception):
    """There is nothing that something could be held against here; the text says what is missing, and how to mend it."""


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
    with bench(deployment, scenario, kind) as ready, Watched(console, 32) as watched:
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
    """Every point once a round, on a server of its own, all of which stay up: who is not visited has nothing to do."""
    from loadtests.local import machine

    with console.status("starting PostgreSQL …"), machine(max_connections=_connections(points)) as here:
        return _sweep(here, points, scenario, limits, rounds=rounds, overload=overload, normal=normal, seconds=seconds, console=console)


def trial(limits: Objectives, console: Console) -> Iterator[Result]:
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
        yield found
        if not rate:
            return
        swept = _sweep(
            here, [Sizing(2, 5)], scenario, limits, rounds=1, overload=1.4 * rate, normal=0.6 * rate, seconds=seconds, console=console
        )
        yield replace(swept, is_sketch=True)
        yield run(deployment, scenario, limits, "poisson", rate=0.6 * rate, seconds=2 * seconds, seed=1, console=console)


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
        # What an operation costs changes with the machine's pace: beside each step, so that both are of the same.
        factor = CALIBRATION[len(steps) % len(CALIBRATION)]
        low = None if is_sketch else watched.step(bursts, factor * start, _LOW_SECONDS, seed + len(steps))
        judged = _judged(watched.step(ready, rate, seconds, seed + len(steps)), limits)
        watched.say(judged)
        steps.append(judged)
        # What an overload has left in the queues shall not be the next step's.
        time.sleep(_SETTLE_SECONDS)
        return knees.Tried(judged.step, judged.failures, low)

    predicted = capacity.predicted(calibration)
    first = start if predicted is None else min(max(start, predicted.rate / knees.FACTOR**2), knees.MOST_RATE)
    precision = _SKETCH_PRECISION if is_sketch else knees.PRECISION
    tried: list[knees.Tried] = []
    cut_short = ""
    try:
        # What was measured until something happens is in the list.
        tried.extend(knees.search(measure, first, precision=precision))
    except UnreachableError as error:
        if not tried:
            raise
        cut_short = str(error)
    calibration += [each.low for each in tried if each.low]
    found = knees.found(tried, calibration)
    seen = [(judged.step.rate, judged.step.server) for judged in steps if judged.step.server]
    highest = max(seen, key=lambda pair: pair[0], default=None)
    took_seconds = time.monotonic() - began
    return Result(
        command="knee",
        description=ready.deployment.description,
        scenario=ready.scenario.name,
        objectives=limits,
        steps=steps,
        calibration=calibration,
        knee=found,
        cut_short=cut_short,
        is_sketch=is_sketch,
        sizing_faults=capacity.sizing_faults(highest[1]) if highest else [],
        checks=ready.checked(),
        took_seconds=took_seconds,
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
    with (
        ExitStack() as servers,
        here.running() as planned,
        bench(planned, scenario) as ready,
        Watched(console, rounds * 3 * len(points)) as watched,
    ):
        rate, derived = _more_than_can_be_served(ready, watched, overload, seconds)
        others = [point for point in dict.fromkeys(points) if point != derived]
        if not others:
            raise UnmeasuredError(f"{derived} is what the plan derives here, and there is nothing to compare it with; name other sizes")
        running = {derived: ready}
        for point in others:
            try:
                running[point] = replace(ready, deployment=servers.enter_context(here.running(point)))
            except UnreachableError as error:
                console.print(f"{point}: {error}", markup=False)
            else:
                # Until every connection has prepared its statements: the more there are the longer that takes, and it is over once.
                watched.step(running[point], rate, _PRIMER_SECONDS, 0, f"{point}, first requests")
        steps: list[Judged] = []
        rates: dict[int, float] = {}

        def visit(point: Sizing, group: int) -> sweeps.Visit | None:
            nonlocal rate
            if point not in running:
                return None
            # One and the same for all of a group.
            high_rate, note = rates.setdefault(group, rate), f"{point}, group {group}"
            try:
                low = watched.step(running[point], normal, seconds, group, note)
                high = watched.step(running[point], high_rate, seconds, group, note)
            except UnreachableError as error:
                console.print(f"{note}: {error}", markup=False)
                return None
            steps.extend(Judged(step, []) for step in (low, high))
            if point == derived and not sweeps.is_overloaded(high):
                rate = _nearer_to_an_overload(high_rate, high)
            return sweeps.Visit(point, group, high, low)

        visited = list(sweeps.visits(others, derived, rounds, visit))
        return Result(
            command="sweep",
            description=planned.description,
            scenario=scenario.name,
            objectives=limits,
            steps=steps,
            sweep=sweeps.judged(visited, others, derived, limits),
            checks=ready.checked(),
            took_seconds=time.monotonic() - began,
        )


def _more_than_can_be_served(ready: Bench, watched: Watched, rate: float, seconds: float) -> tuple[float, Sizing]:
    """A rate of which a part is refused, and the sizes of the server that refused it: served whole, it would say nothing of the most that can be.

    The search ends after a while, since the machine may change its pace meanwhile: whether a rate was the right one is judged by each visit.

    Raises:
        UnmeasuredError: the server's metrics never answered.
    """
    derived: Sizing | None = None
    for number in range(_MOST_SEARCHES):
        step = watched.step(ready, rate, seconds, number)
        if step.server is not None:
            derived = Sizing(step.server.workers, round(step.server.pool_size / step.server.workers))
        nearer = _nearer_to_an_overload(rate, step)
        if derived is not None and nearer == rate and not step.void:
            break
        rate = nearer
    if derived is None:
        raise UnmeasuredError(f"which sizes the plan derives is not known: {ready.deployment.metrics_url} does not answer in time")
    return rate, derived


def _nearer_to_an_overload(rate: float, step: Step) -> float:
    """The next rate to try; the same when it was the right one, or nobody knows."""
    if step.void or _AIMED_AT_LEAST <= step.total.refused_rate <= _AIMED_AT_MOST:
        return rate
    return rate * _OVERLOAD_FACTOR if step.total.refused_rate < _AIMED_AT_LEAST else rate / _OVERLOAD_FACTOR


def _judged(step: Step, limits: Objectives) -> Judged:
    return Judged(step, objectives.check(step, limits))


def _connections(points: Sequence[Sizing]) -> int:
    """PostgreSQL's `max_connections` for all of them, and all others."""
    return max(100, 50 + sum(point.workers * (point.pool + 1) for point in points))
