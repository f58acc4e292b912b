"""The scenarios: mixtures of operations. Locust and the open loop run the same ones."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from loadtests.exchanges import Operation
from loadtests.scenarios import operations
from loadtests.scenarios.operations import MakeOperation
from loadtests.shop import Shop

__all__ = ["SCENARIOS", "Scenario"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A mixture.

    Args:
        name: what it is called.
        summary: what it is for.
        mixture: operations with their weights.
        imports: whether an import runs beside it, again and again.
    """

    name: str
    summary: str
    mixture: tuple[tuple[int, MakeOperation], ...]
    imports: bool = False

    def draw(self, shop: Shop, chance: random.Random) -> Iterator[Operation]:
        """Operations at random, without end."""
        weights, makers = zip(*self.mixture, strict=True)
        while True:
            for make in chance.choices(makers, weights, k=64):
                yield make(shop, chance)


_BROWSING: tuple[tuple[int, MakeOperation], ...] = (
    (45, operations.read_product),
    (35, operations.read_variant),
    (20, operations.list_products),
)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("browse", "what a storefront asks: 80 % single reads, 20 % lists", _BROWSING),
        Scenario(
            "hot-sku", "a sale: reservations whose SKUs follow Zipf's law, so that most want the same few", ((1, operations.reserve_hot),)
        ),
        Scenario("login", "a login burst: passwords are hashed with Argon2id", ((1, operations.log_in),)),
        Scenario("import", "browsing while `stockroom import` runs again and again beside it", _BROWSING, imports=True),
        Scenario(
            "mixed",
            "the acceptance workload: 80 reads, 12 lists with filters, 6 reserve and commit, 2 writes",
            (
                (45, operations.read_product),
                (35, operations.read_variant),
                (12, operations.list_filtered),
                (6, operations.reserve_and_commit),
                (1, operations.change_product),
                (1, operations.adjust_stock),
            ),
        ),
    )
}
"""By name."""
