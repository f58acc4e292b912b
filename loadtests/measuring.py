"""Measuring deployments: steps of a scenario, of one or of two at the same moment, with their server side."""

import asyncio
import gc
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice

import uvloop

from loadtests import arrivals, consistency, database, importing, offering
from loadtests.api import Api, ApiError, UnreachableError
from loadtests.arrivals import Arrivals
from loadtests.deployment import Deployment
from loadtests.exchanges import Operation
from loadtests.sampler import Sampler
from loadtests.scenarios import Scenario
from loadtests.shop import Shop, close_shop, open_shop
from loadtests.steps import Step, step_of
from loadtests.wire import Client

_FEWEST_CONNECTIONS, _MOST_CONNECTIONS = 16, 256
_OPERATIONS_A_CONNECTION = 4
"""In a second: many connections, because the kernel throws dice on which worker has each."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A deployment that is ready to be measured.

    Args:
        deployment: which one.
        scenario: what is asked of it.
        shop: what it is asked about.
        kind: how arrivals are distributed.
        imports: that run beside it; None where the scenario has none.
    """

    deployment: Deployment
    scenario: Scenario
    shop: Shop
    kind: Arrivals
    imports: importing.Imports | None = None

    def measure(self, rate: float, seconds: float, seed: int) -> Step:
        """Offer a rate for some seconds.

        Raises:
            UnreachableError: nobody listens there.
        """
        (step,) = _run([self], rate, seconds, seed)
        return step

    def measure_beside(self, other: "Bench", rate: float, seconds: float, seed: int) -> tuple[Step, Step]:
        """Offer the same to two deployments at the same moment: what the machine does meanwhile, it does to both.

        Raises:
            UnreachableError: nobody listens at one of them.
        """
        # The generator's CPU is that of both, who were sent equally much.
        ours, theirs = (
            replace(step, generator_cpu_per_request_ms=step.generator_cpu_per_request_ms / 2)
            for step in _run([self, other], rate, seconds, seed)
        )
        return ours, theirs

    def checked(self) -> list[consistency.Check]:
        """Whether the books agree with what was done so far, and imports beside it ended well."""
        try:
            checks = consistency.check(self.shop, self.deployment.database_url)
        except (UnreachableError, ApiError) as error:
            # What was measured shall not be lost with it.
            checks = [consistency.Check("the books can be looked over", [], 0, [str(error)])]
        return checks if self.imports is None else [*checks, self.imports.check]


def planned(
    scenario: Scenario, shop: Shop, kind: Arrivals, *, rate: float, seconds: float, seed: int
) -> tuple[list[float], list[Operation]]:
    """When operations begin, and which.

    Each has a stream of random numbers of its own: of one and the same, the gap before an operation would decide which it is.
    """
    due = arrivals.schedule(kind, rate=rate, seconds=seconds, seed=seed)
    return due, list(islice(scenario.draw(shop, random.Random(f"operations {seed}")), len(due)))


def _run(benches: Sequence[Bench], rate: float, seconds: float, seed: int) -> list[Step]:
    async def together() -> list[Step]:
        start = asyncio.Barrier(len(benches))
        return await asyncio.gather(*(_measured(each, rate, seconds, seed, start) for each in benches))

    with _without_collections(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(together())


@contextmanager
def _without_collections() -> Iterator[None]:
    """No garbage collection meanwhile: one takes a tenth of a second at a thousand operations a second, in which nothing goes out in time."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _measured(bench: Bench, rate: float, seconds: float, seed: int, start: asyncio.Barrier) -> Step:
    due, operations = planned(bench.scenario, bench.shop, bench.kind, rate=rate, seconds=seconds, seed=seed)
    client = Client(bench.deployment.host, bench.shop.api.token)
    sampler = Sampler(bench.deployment.metrics_url, bench.deployment.database_url, postmaster=bench.deployment.postmaster)
    connections = min(_MOST_CONNECTIONS, max(_FEWEST_CONNECTIONS, int(rate / _OPERATIONS_A_CONNECTION)))
    try:
        # Before anybody looks: what connecting costs is none of the step's.
        await client.connect(connections)
        async with sampler.running() as samples:
            await start.wait()
            offered = await offering.offer(client, due, operations)
    except OSError as error:
        raise UnreachableError(f"{bench.deployment.host} does not answer: {error}") from None
    finally:
        client.close()
        await asyncio.sleep(0.05)
    return step_of(offered, samples, scenario=bench.scenario.name, arrivals=bench.kind, rate=rate, seconds=seconds, seed=seed)


@contextmanager
def bench(deployment: Deployment, scenario: Scenario, kind: Arrivals = "poisson") -> Iterator[Bench]:
    """Log in, make what the scenario needs, and tidy up afterwards.

    Raises:
        UnreachableError: the deployment does not answer, or does not let the user in; or the database's URL is not that of its database.
        ApiError: the user may not do what is needed.
    """
    shop = open_shop(Api(deployment.host, deployment.username, deployment.password))
    try:
        if deployment.database_url is not None:
            database.look_into(deployment.database_url, shop.own_ids[0])
        with importing.beside(deployment.database_url) if scenario.imports else nullcontext() as imports:
            yield Bench(deployment, scenario, shop, kind, imports)
    finally:
        try:
            close_shop(shop)
        except (UnreachableError, ApiError) as error:
            # What was measured shall not be lost with it.
            sys.stderr.write(f"the products of the load test were not archived: {error}\n")
