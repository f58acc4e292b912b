"""The commands' work: steps in their order, with a progress bar, summed up as results."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from loadtests import capacity, objectives
from loadtests import knee as knees
from loadtests import sweep as sweeps
from loadtests.api import UnreachableError
from loadtests.arrivals import BURST, Arrivals
from loadtests.deployment import Deployment, Sizing
from loadtests.measuring import Bench, bench
from loadtests.objectives import Objectives
from loadtests.progress import Watched
from loadtests.results import Judged, Result
from loadtests.scenarios import SCENARIOS, Scenario
from loadtests.steps import Step

if TYPE_CHECKING:
    from loadtests.local import Machine

CALIBRATION = (4.0, 0.5, 3.0, 5.0)
"""Times the rate of the first step, in bursts: a low load, at which each operation costs what it costs under a high one. The lowest tells the CPU
that is used without operations."""

_LOW_SECONDS = 4.0
_SETTLE_SECONDS = 0.5
_PRIMER_SECONDS = 2.0
_SKETCH_PRECISION = 1.25

_AIMED_AT_LEAST, _AIMED_AT_MOST = 0.2, 0.35
"""What the derived point is to refuse under overload: within what counts, with room for a machine that changes its pace and a point that serves more."""
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
    """Every point once a round, beside the derived one."""
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
            here, [Sizing(2, 5)], scenario, limits, rounds=1, overload=1.1 * rate, normal=0.5 * rate, seconds=seconds, console=console
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
        calibration.append(watched.step(bursts, _in_two_bursts(factor * start, seconds), seconds, seed))
        if unmeasured := [str(finding) for finding in objectives.check(calibration[0], limits) if not finding.is_measured]:
            raise UnmeasuredError("; ".join(unmeasured))
    steps: list[Judged] = []

    def measure(rate: float) -> knees.Tried:
        # What an operation costs changes with the machine's pace: beside each step, so that both are of the same.
        factor = CALIBRATION[len(steps) % len(CALIBRATION)]
        low = None if is_sketch else watched.step(bursts, _in_two_bursts(factor * start, _LOW_SECONDS), _LOW_SECONDS, seed + len(steps))
        judged = _judged(watched.step(ready, rate, seconds, seed + len(steps)), limits)
        watched.say(judged)
        steps.append(judged)
        # What an overload has left in the queues shall not be the next step's.
        time.sleep(_SETTLE_SECONDS)
        return knees.Tried(judged.step, judged.failures, low)

    predicted = capacity.predicted(calibration, spare_per_second=limits.spare_per_second)
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
    found = knees.found(tried, calibration, limits)
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


def _in_two_bursts(rate: float, seconds: float) -> float:
    """A rate, or one of which two bursts come: the first is in the second that is not counted."""
    return max(rate, 2 * BURST / seconds)


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
    from loadtests.local import PAIR_LIMIT_PERCENT

    began = time.monotonic()
    running = partial(here.running, limit_percent=PAIR_LIMIT_PERCENT)
    with running() as planned, bench(planned, scenario) as ready, Watched(console, 3 * rounds * len(points)) as watched:
        derived = _derived(ready, watched, normal)
        others = [point for point in dict.fromkeys(points) if point != derived]
        if not others:
            raise UnmeasuredError(f"{derived} is what the plan derives here, and there is nothing to compare it with; name other sizes")
        pair = partial(watched.pair, at_once=here.holds_two)
        steps: list[Judged] = []
        absent: set[Sizing] = set()
        rate = overload

        def measure(point: Sizing, number: int) -> sweeps.Pair | None:
            nonlocal rate
            if point in absent:
                return None
            note = f"{derived} beside {point}, pair {number + 1}"
            # What being the first is worth, to start or to be sent to, is not always the same one's.
            sizes = (derived, point) if number % 2 else (point, derived)
            ours = sizes.index(derived)
            try:
                with ExitStack() as servers:
                    one, other = (servers.enter_context(running(size)) for size in sizes)
                    first, second = ready.shop.halves
                    benches = replace(ready, deployment=one, shop=first), replace(ready, deployment=other, shop=second)
                    # Until every connection has prepared its statements: the more there are the longer that takes, and it is over once.
                    pair(benches, rate, _PRIMER_SECONDS, number, f"{note}, first requests")
                    if not steps:
                        search = f"{note}, looking for an overload"
                        rate = _more_than_can_be_served(lambda rate: pair(benches, rate, _PRIMER_SECONDS, number, search)[ours], rate)
                    normals = pair(benches, normal, seconds, number, note)
                    overloads = pair(benches, rate, seconds, number, note)
            except (UnreachableError, OSError, subprocess.TimeoutExpired) as error:
                # What was measured shall not be lost with it.
                console.print(f"{note}: {error}; {point} is left out from here on", markup=False)
                absent.add(point)
                return None
            steps.extend(Judged(step, []) for step in (*normals, *overloads))
            rate = _nearer_to_an_overload(rate, overloads[ours])
            loads = [sweeps.Loads(overload=high, normal=low) for high, low in zip(overloads, normals, strict=True)]
            return sweeps.Pair(point, derived=loads[ours], other=loads[1 - ours])

        found = list(sweeps.pairs(others, rounds, measure))
        return Result(
            command="sweep",
            description=planned.description,
            scenario=scenario.name,
            objectives=limits,
            steps=steps,
            sweep=sweeps.judged(found, others, derived, limits, at_once=here.holds_two),
            checks=ready.checked(),
            took_seconds=time.monotonic() - began,
        )


def _derived(ready: Bench, watched: Watched, rate: float) -> Sizing:
    """The sizes of a server that has those of the plan.

    Raises:
        UnmeasuredError: its metrics never answered.
    """
    for number in range(_MOST_SEARCHES):
        server = watched.step(ready, rate, _PRIMER_SECONDS, number).server
        if server is not None:
            return Sizing(server.workers, round(server.pool_size / server.workers))
    raise UnmeasuredError(f"which sizes the plan derives is not known: {ready.deployment.metrics_url} does not answer in time")


def _more_than_can_be_served(offer: Callable[[float], Step], rate: float) -> float:
    """A rate of which a part is refused: served whole, it would say nothing of the most that can be.

    The search ends after a while, since the machine may change its pace meanwhile: whether a rate was the right one is judged by each pair.
    """
    for _ in range(_MOST_SEARCHES):
        tried = offer(rate)
        nearer = _nearer_to_an_overload(rate, tried)
        if nearer == rate and not tried.void:
            break
        rate = nearer
    return rate


def _nearer_to_an_overload(rate: float, tried: Step) -> float:
    """The next rate to try; the same when it was the right one, or nobody knows."""
    if tried.void or _AIMED_AT_LEAST <= tried.total.refused_rate <= _AIMED_AT_MOST:
        return rate
    return rate * _OVERLOAD_FACTOR if tried.total.refused_rate < _AIMED_AT_LEAST else rate / _OVERLOAD_FACTOR


def _judged(step: Step, limits: Objectives) -> Judged:
    return Judged(step, objectives.check(step, limits))


def _connections(points: Sequence[Sizing]) -> int:
    """PostgreSQL's `max_connections` for each of them, the derived one beside it, and all others."""
    return 100 + max(point.workers * (point.pool + 1) for point in points)
