"""Measuring a deployment: steps of a scenario, one after the other, with its server side."""

import asyncio
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
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
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._measured(rate, seconds, seed))

    def checked(self) -> list[consistency.Check]:
        """Whether the books agree with what was done so far, and imports beside it ended well."""
        try:
            checks = consistency.check(self.shop, self.deployment.database_url)
        except (UnreachableError, ApiError) as error:
            # What was measured shall not be lost with it.
            checks = [consistency.Check("the books can be looked over", [], 0, [str(error)])]
        return checks if self.imports is None else [*checks, self.imports.check]

    async def _measured(self, rate: float, seconds: float, seed: int) -> Step:
        due, operations = planned(self.scenario, self.shop, self.kind, rate=rate, seconds=seconds, seed=seed)
        client = Client(self.deployment.host, self.shop.api.token)
        sampler = Sampler(self.deployment.metrics_url, self.deployment.database_url, postmaster=self.deployment.postmaster)
        connections = min(_MOST_CONNECTIONS, max(_FEWEST_CONNECTIONS, int(rate / _OPERATIONS_A_CONNECTION)))
        try:
            # Before anybody looks: what connecting costs is none of the step's.
            await client.connect(connections)
            async with sampler.running() as samples:
                offered = await offering.offer(client, due, operations)
        except OSError as error:
            raise UnreachableError(f"{self.deployment.host} does not answer: {error}") from None
        finally:
            client.close()
            await asyncio.sleep(0.05)
        return step_of(offered, samples, scenario=self.scenario.name, arrivals=self.kind, rate=rate, seconds=seconds, seed=seed)


def planned(
    scenario: Scenario, shop: Shop, kind: Arrivals, *, rate: float, seconds: float, seed: int
) -> tuple[list[float], list[Operation]]:
    """When operations begin, and which.

    Each has a stream of random numbers of its own: of one and the same, the gap before an operation would decide which it is.
    """
    due = arrivals.schedule(kind, rate=rate, seconds=seconds, seed=seed)
    return due, list(islice(scenario.draw(shop, random.Random(f"operations {seed}")), len(due)))


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
