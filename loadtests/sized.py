"""`python -m loadtests.sized WORKERS POOL`: `stockroom serve` with sizes of one's own, whatever the plan says, to compare the plan with.

The plan itself stays what it is, so that the metrics still tell what would have been right.
"""

import sys
from dataclasses import replace

from app.capacity.model import Inputs, Plan, Refusal, plan
from app.core import server, sizing
from app.core.config import get_settings


def with_sizes(decided: Plan, *, workers: int, pool: int) -> Plan:
    """A plan with other workers and pools, which passes the check at boot."""
    inputs = decided.inputs
    return replace(
        decided,
        workers_per_pod=workers,
        pool_size=pool,
        waiters_per_worker=int(max(1, pool * inputs.wait_budget_ms / inputs.hold_time_ms)),
        arithmetic=replace(decided.arithmetic, cap_connections_per_pool=max(pool, decided.arithmetic.cap_connections_per_pool)),
    )


def main() -> None:
    """Run it until SIGTERM."""
    workers, pool = map(int, sys.argv[1:])

    def decide(inputs: Inputs) -> Plan | Refusal:
        decided = plan(inputs)
        return with_sizes(decided, workers=workers, pool=pool) if isinstance(decided, Plan) else decided

    vars(sizing)["plan"] = decide
    server.serve(get_settings())


if __name__ == "__main__":
    main()
