"""What a step begins: operations of a mixture, at moments that know nothing of them."""

from collections import defaultdict
from typing import Any

import pytest

from loadtests.measuring import planned
from loadtests.scenarios import SCENARIOS
from loadtests.shop import Shop


def kind_of(operation: Any) -> str:
    name: str = operation.__name__
    return name


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_which_operation_comes_next_has_nothing_to_do_with_when_it_comes(seed: int) -> None:
    api: Any = None
    due, operations = planned(SCENARIOS["mixed"], Shop(api), "poisson", rate=100, seconds=400, seed=seed)
    gaps: dict[str, list[float]] = defaultdict(list)
    for before, at, operation in zip([0.0, *due], due, operations, strict=False):
        gaps[kind_of(operation)].append((at - before) * 100)
    assert len(gaps) == 6
    # Five standard deviations of the mean of exponential gaps.
    assert all(sum(found) / len(found) == pytest.approx(1, abs=5 / len(found) ** 0.5) for found in gaps.values())


def test_the_same_seed_asks_for_the_same_in_the_same_order() -> None:
    api: Any = None
    first, again = (planned(SCENARIOS["mixed"], Shop(api), "poisson", rate=50, seconds=2, seed=1) for _ in range(2))
    assert (first[0], [kind_of(one) for one in first[1]]) == (again[0], [kind_of(one) for one in again[1]])
