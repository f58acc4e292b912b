"""Two hundred logins at once: what reads notice, and the memory that it takes.

Who is refused tries again when `Retry-After` says, so the storm lasts until all are in.
"""

import asyncio
import math
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from app.capacity.inputs import BASE_MEMORY_MIB, MEMORY_PER_WORKER_MIB
from benchmarks.client import exchange, request, send_all
from benchmarks.overload.arrivals import Step, offer
from benchmarks.overload.figures import Bench, Figure, median, percentile
from benchmarks.overload.requests import reads
from benchmarks.serving import EMAIL, PASSWORD, SERVE, log_in, serving

_LOGINS = 200
_ROUNDS = 3
_CALM_SECONDS = 1.0
_SECONDS = 20.0
_OF_CAPACITY = 0.3
_MOST_REFUSED_PERCENT = 1
"""Of the reads: 200 requests that come in one moment are more than may be in flight, so a few that come with them are refused."""


@dataclass(slots=True)
class Storm:
    """How it went: in seconds since the load began, and in tries that were refused."""

    lasted: float = math.inf
    refused: int = 0


def measure(bench: Bench) -> list[Figure]:
    """The reads' p99 with and without a storm at the same rate."""
    ratios, calm_ms, storm_ms, lost, lasted = [], [], [], [], []
    with serving(SERVE, bench.environment, "/healthz", cores={min(bench.cores)}) as server:
        make = reads(bench, log_in(server))
        asyncio.run(send_all(server.port, make(500), connections=16, expected_status=None))
        began = time.perf_counter()
        asyncio.run(send_all(server.port, make(1500), connections=16, expected_status=None))
        rate = _OF_CAPACITY * 1500 / (time.perf_counter() - began)
        for number in range(1, _ROUNDS + 1):
            with bench.console.status(f"{_LOGINS} logins at once: round {number} of {_ROUNDS}"):
                calm, _ = offer(server.port, make, rate=rate, seconds=_SECONDS, seed=number, beside=_no_storm)
                stormy, storm = offer(server.port, make, rate=rate, seconds=_SECONDS, seed=number, beside=lambda: _storm(server.port))
            until = min(storm.lasted, _SECONDS)
            calm_ms.append(_p99(calm, until))
            storm_ms.append(_p99(stormy, until))
            ratios.append(storm_ms[-1] / calm_ms[-1])
            lost.append(100 * stormy.refused)
            lasted.append(storm.lasted - _CALM_SECONDS)
        base_mib, own_mib = server.memory_mib()
    return [
        Figure("reads offered", rate, unit="/s"),
        Figure("p99 of reads", median(calm_ms), unit="ms", rounds=tuple(calm_ms)),
        Figure("p99 of reads during the storm", median(storm_ms), unit="ms", rounds=tuple(storm_ms)),
        Figure("ratio", median(ratios), at_most=2.0, rounds=tuple(ratios)),
        Figure("reads refused during the storm", median(lost), at_most=_MOST_REFUSED_PERCENT, unit="%", rounds=tuple(lost)),
        Figure("until all 200 are logged in", median(lasted), unit="s", rounds=tuple(lasted)),
        Figure("memory of the arbiter after the storms", base_mib, at_most=BASE_MEMORY_MIB, unit="MiB"),
        Figure("of the worker, beside what they share", own_mib, at_most=MEMORY_PER_WORKER_MIB, unit="MiB"),
    ]


def _p99(step: Step, until: float) -> float:
    return percentile([answer.latency_ms for answer in step.answers if _CALM_SECONDS <= answer.due < until and answer.status == 200], 99)


async def _no_storm() -> None: ...


async def _storm(port: int) -> Storm:
    storm = Storm()
    began = time.perf_counter()
    await asyncio.sleep(_CALM_SECONDS)
    form = urlencode({"username": EMAIL, "password": PASSWORD}).encode()
    login = request("POST", "/api/v1/auth/login", {"Content-Type": "application/x-www-form-urlencoded"}, form)

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (answer := await exchange(reader, writer, login))[0] != 200:
            assert answer[0] == 503, answer
            storm.refused += 1
            await asyncio.sleep(int(answer[1].lower().partition(b"retry-after: ")[2].partition(b"\r")[0]))
        writer.close()

    try:
        await asyncio.gather(*(work() for _ in range(_LOGINS)))
        storm.lasted = time.perf_counter() - began
    except asyncio.CancelledError:
        pass
    return storm
