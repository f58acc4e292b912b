"""What is looked at ten times a second instead of being counted at every request: the pool, admission, the event loop, CPU time and throttling."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.capacity.limits import cpu_throttling
from app.core import metrics
from app.core.background import in_background
from app.core.process import Process

_INTERVAL_SECONDS = 0.1
_ROUNDS_A_SECOND = 10
_MOST_MISSED = 600


@asynccontextmanager
async def sampled(process: Process) -> AsyncIterator[None]:
    """Sample the process for as long as the block runs."""
    metrics.POOL_SIZE.set(process.database.pool.largest)
    metrics.ADMISSION_LIMIT.set(process.admission.limit)
    metrics.ADMISSION_STANDING_LIMIT.set(process.admission.standing)
    metrics.PLANNED_PEAK_CONNECTIONS.set(process.plan.peak_connections)
    metrics.CPU_LIMIT_CORES.set(process.plan.inputs.cpu_limit_millicores / 1000)
    async with in_background(_sample(process)):
        yield


async def _sample(process: Process) -> None:
    loop = asyncio.get_running_loop()
    pool, number = process.database.pool, 0
    while True:
        if number % _ROUNDS_A_SECOND == 0 and (throttling := cpu_throttling()) is not None:
            metrics.CPU_THROTTLED_PERIODS.set(throttling.periods)
            metrics.CPU_THROTTLED_SECONDS.set(throttling.seconds)
        metrics.POOL_CHECKED_OUT.set(pool.checked_out)
        metrics.POOL_WAITING.set(pool.waiting)
        metrics.REQUESTS_IN_FLIGHT.set(process.admission.in_flight)
        metrics.WORKER_REQUESTS.set(process.admission.admitted)
        metrics.WORKER_CPU_SECONDS.set(time.process_time())
        asked_for = loop.time() + _INTERVAL_SECONDS
        await asyncio.sleep(_INTERVAL_SECONDS)
        _observe_lag(max(0.0, loop.time() - asked_for))
        number += 1


def _observe_lag(seconds: float) -> None:
    # A blocked loop wakes one timer late instead of many: those that it has missed would have been as late as what was left of the time.
    missed = min(int(seconds / _INTERVAL_SECONDS), _MOST_MISSED)
    for number in range(missed + 1):
        metrics.EVENT_LOOP_LAG_SECONDS.observe(seconds - number * _INTERVAL_SECONDS)
