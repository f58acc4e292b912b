"""A server with sizes of one's own, as the sweep starts it: the plan with these sizes, and everything else as it was derived."""

from dataclasses import replace

from app.capacity.model import Plan, plan
from loadtests.sized import with_sizes
from tests.inputs import LAPTOP

INPUTS = replace(LAPTOP, cpu_limit_millicores=500)


def test_the_plan_takes_the_sizes_and_the_waiters_that_belong_to_them() -> None:
    decided = plan(INPUTS)
    assert isinstance(decided, Plan)
    sized = with_sizes(decided, workers=3, pool=50)
    assert (sized.workers_per_pod, sized.pool_size, sized.inputs) == (3, 50, decided.inputs)
    assert sized.waiters_per_worker == int(50 * decided.inputs.wait_budget_ms / decided.inputs.hold_time_ms)
    assert sized.arithmetic.cap_connections_per_pool >= 50
    assert with_sizes(decided, workers=1, pool=1).waiters_per_worker >= 1
