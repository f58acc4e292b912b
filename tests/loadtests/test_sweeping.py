"""How a sweep goes about: two new servers for each pair, loaded at the same moment, at a rate that is above what can be served."""

import gc
import io
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from loadtests import commands, local, measuring
from loadtests.api import UnreachableError
from loadtests.deployment import Deployment, Sizing
from loadtests.exchanges import Operation
from loadtests.local import PAIR_LIMIT_PERCENT, Machine
from loadtests.measuring import Bench, bench
from loadtests.objectives import Objectives
from loadtests.results import Result
from loadtests.scenarios import SCENARIOS, Scenario
from loadtests.scenarios.operations import read_product
from loadtests.shop import Shop
from loadtests.steps import Step
from tests.loadtests.made import a_step, problems
from tests.serving.servers import free_port

DERIVED, OTHER = Sizing(1, 5), Sizing(1, 2)
ROUNDS = 9

Measure = Callable[[Bench, float, float, int], Step]


@dataclass
class Here:
    """A machine whose servers are all one and the same, and which notes what was started."""

    deployment: Deployment
    holds_two: bool = False
    absent: Sizing | None = None
    started: list[tuple[Sizing | None, int]] = field(default_factory=list)

    def running(self, sizing: Sizing | None = None, *, limit_percent: int) -> AbstractContextManager[Deployment]:
        self.started.append((sizing, limit_percent))
        if sizing is not None and sizing == self.absent:
            raise UnreachableError("it did not start")
        return nullcontext(replace(self.deployment, database_url=None))


def a_sweep(
    monkeypatch: pytest.MonkeyPatch, here: Here, measure: Measure, points: list[Sizing], console: io.StringIO | None = None
) -> Result:
    """A sweep whose steps are made up."""
    monkeypatch.setattr(local, "machine", lambda **_: nullcontext(here))
    monkeypatch.setattr(Bench, "measure", measure)
    limits = Objectives(refused_rate=0.01, error_rate=0.001)
    return commands.sweep(
        points,
        SCENARIOS["mixed"],
        limits,
        rounds=ROUNDS,
        overload=600,
        normal=300,
        seconds=4,
        console=Console(file=console or io.StringIO(), width=200),
    )


def a_server_of(capacity: float) -> Measure:
    """Steps of a server that serves so much a second."""

    def measure(_: Bench, rate: float, seconds: float, seed: int) -> Step:
        served = min(rate, capacity)
        return a_step(rate, served=served, refused=round(9 * (rate - served)), seconds=seconds, seed=seed)

    return measure


@pytest.mark.parametrize(
    ("capacity", "outcome", "says"),
    [
        (1000.0, "shown", "the derived sizing (1 x 5) is within 5% of the best"),
        (math.inf, "not shown", "1 x 2 was compared 0 times under an overload"),
    ],
)
def test_a_sweep_looks_for_an_overload_and_says_nothing_without_one(
    capacity: float, outcome: str, says: str, monkeypatch: pytest.MonkeyPatch, deployment: Deployment
) -> None:
    steps = []

    def measure(ready: Bench, rate: float, seconds: float, seed: int) -> Step:
        steps.append(rate)
        # Every third step is void, as on a machine that has something else to do.
        void = "late" if len(steps) % 3 == 1 and len(steps) < 12 else ""
        return replace(a_server_of(capacity)(ready, rate, seconds, seed), void=void)

    result = a_sweep(monkeypatch, Here(deployment), measure, [OTHER, DERIVED])
    assert result.sweep is not None
    assert (result.sweep.outcome, says in result.sweep.verdict, result.sweep.at_once) == (outcome, True, False)
    assert problems(result.checks) == []


def test_the_overload_follows_a_machine_that_becomes_slower(monkeypatch: pytest.MonkeyPatch, deployment: Deployment) -> None:
    steps = 0

    def measure(ready: Bench, rate: float, seconds: float, seed: int) -> Step:
        nonlocal steps
        steps += 1
        return a_server_of(1000 if steps < 40 else 700)(ready, rate, seconds, seed)

    result = a_sweep(monkeypatch, Here(deployment), measure, [OTHER])
    overloads = [judged.step for judged in result.steps if judged.step.rate != 300]
    refused = [step.total.refused_rate for step in overloads]
    assert 0.2 <= refused[0] <= 0.35
    assert max(refused) > 0.35
    assert 0.2 <= refused[-1] <= 0.35


def test_both_of_a_pair_are_new_equally_limited_and_loaded_at_the_same_moment_with_products_of_their_own(
    monkeypatch: pytest.MonkeyPatch, deployment: Deployment
) -> None:
    here, skus = Here(deployment, holds_two=True), []

    def measure_beside(ready: Bench, other: Bench, rate: float, seconds: float, seed: int) -> tuple[Step, Step]:
        skus.append((set(ready.shop.own_skus), set(other.shop.own_skus)))
        step = a_server_of(1000)(ready, rate, seconds, seed)
        return step, step

    monkeypatch.setattr(Bench, "measure_beside", measure_beside)
    result = a_sweep(monkeypatch, here, a_server_of(1000), [OTHER])
    assert result.sweep is not None
    assert (result.sweep.outcome, result.sweep.at_once) == ("shown", True)
    (planned, _), *started = here.started
    pairs = [{sizing for sizing, _ in started[first : first + 2]} for first in range(0, len(started), 2)]
    assert planned is None
    assert pairs == [{DERIVED, OTHER}] * ROUNDS
    # Now one of the two first, now the other.
    assert {sizing for sizing, _ in started[::2]} == {DERIVED, OTHER}
    assert {percent for _, percent in here.started} == {PAIR_LIMIT_PERCENT}
    assert all(first and second and not first & second for first, second in skus)


def test_what_each_of_a_pair_served_is_its_own_whoever_was_first(monkeypatch: pytest.MonkeyPatch, deployment: Deployment) -> None:
    here = Here(deployment, holds_two=True)

    def measure_beside(ready: Bench, _: Bench, rate: float, seconds: float, seed: int) -> tuple[Step, Step]:
        # Of the two that were started last the derived one serves more.
        first, second = (a_server_of(1000 if sizing == DERIVED else 800)(ready, rate, seconds, seed) for sizing, _ in here.started[-2:])
        return first, second

    monkeypatch.setattr(Bench, "measure_beside", measure_beside)
    result = a_sweep(monkeypatch, here, a_server_of(1000), [OTHER])
    assert result.sweep is not None
    assert {str(cell.sizing): cell.throughput for cell in result.sweep.cells} == {"1 x 5": 1000, "1 x 2": 800}


def test_a_size_whose_server_does_not_start_is_left_out_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, deployment: Deployment
) -> None:
    here, said = Here(deployment, absent=Sizing(4, 50)), io.StringIO()
    result = a_sweep(monkeypatch, here, a_server_of(1000), [OTHER, Sizing(4, 50)], said)
    assert result.sweep is not None
    assert "4 x 50 was never measured" in result.sweep.verdict
    assert "it did not start; 4 x 50 is left out from here on" in said.getvalue()
    assert [sizing for sizing, _ in here.started].count(Sizing(4, 50)) == 1
    assert [sizing for sizing, _ in here.started].count(OTHER) == ROUNDS


def test_a_sweep_of_the_derived_point_alone_compares_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch, deployment: Deployment) -> None:
    with pytest.raises(commands.UnmeasuredError, match="1 x 5 is what the plan derives here, and there is nothing to compare it with"):
        a_sweep(monkeypatch, Here(deployment), a_server_of(1000), [DERIVED])


@pytest.mark.parametrize("group", [Path("cgroup.procs"), None])
def test_a_server_is_planned_for_the_limit_that_holds_it_and_does_not_run_without(
    group: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    @contextmanager
    def serving(_: object, variables: dict[str, str], *__: object, group: Path | None, **___: object) -> Iterator[SimpleNamespace]:
        seen.update(variables, group=group)
        yield SimpleNamespace(url="http://127.0.0.1:1")

    monkeypatch.setattr(local, "cpu_quota", lambda percent: nullcontext(group and group.with_name(f"{percent} {group.name}")))
    monkeypatch.setattr(local, "serving", serving)
    here = Machine(database_url="", variables={}, postmaster=os.getpid(), server_core=0, holds=True, awake=False)
    if group is None:
        with pytest.raises(UnreachableError, match="no control group can be made"), here.running(limit_percent=45):
            pass
        return
    with here.running(limit_percent=45) as deployment:
        assert (seen["APP_CPU_LIMIT"], str(seen["group"])) == ("450m", "45 cgroup.procs")
        assert "each server held to 45 % of it" in deployment.description


def test_two_servers_are_offered_the_same_at_the_same_moment_and_their_books_are_one(deployment: Deployment) -> None:
    with bench(deployment, SCENARIOS["hot-sku"]) as ready:
        first, second = (replace(ready, shop=shop) for shop in ready.shop.halves)
        began = time.monotonic()
        steps = first.measure_beside(second, 20, 3, 1)
        took_seconds = time.monotonic() - began
        assert [step.errors for step in steps] == [{}, {}]
        assert steps[0].offered == steps[1].offered == len(ready.shop.attempts) / 2 > 30
        assert took_seconds < 5
        skus = [set(shop.own_skus) for shop in ready.shop.halves]
        assert all(skus[half] & {attempt.sku for attempt in ready.shop.attempts} for half in (0, 1))
        assert problems(ready.checked()) == []


def test_the_generator_is_shared_by_the_two(monkeypatch: pytest.MonkeyPatch, deployment: Deployment) -> None:
    monkeypatch.setattr(measuring, "_run", lambda *_: [a_step(generator_cpu_per_request_ms=0.2)] * 2)
    ready = Bench(deployment, SCENARIOS["mixed"], Shop(api=None), "poisson")  # type: ignore[arg-type] # nobody is asked
    assert [step.generator_cpu_per_request_ms for step in ready.measure_beside(ready, 100, 4, 1)] == [0.1, 0.1]


def test_two_of_which_one_is_gone_cannot_be_measured(deployment: Deployment) -> None:
    with bench(deployment, SCENARIOS["browse"]) as ready:
        gone = replace(ready, deployment=replace(deployment, host=f"http://127.0.0.1:{free_port()}"))
        for pair in ((ready, gone), (gone, ready)):
            began = time.monotonic()
            with pytest.raises(UnreachableError, match="does not answer"):
                pair[0].measure_beside(pair[1], 20, 3, 1)
            assert time.monotonic() - began < 3


def test_no_garbage_is_collected_while_requests_are_due(deployment: Deployment) -> None:
    seen = []

    def look(shop: Shop, chance: Random) -> Operation:
        seen.append(gc.isenabled())
        yield from read_product(shop, chance)

    with bench(deployment, Scenario("looking", "", ((1, look),))) as ready:
        ready.measure(20, 1, 1)
    assert (set(seen), gc.isenabled()) == ({False}, True)
