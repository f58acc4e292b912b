"""Two hundred logins at once: what reads notice, and the memory that it takes.

Who is refused tries again when `Retry-After` says, so the storm lasts until all are in.
"""

import asyncio
import math
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from app.capacity.inputs import BASE_MEMORY_MIB, MEMORY_PER_WORKER_MIB
from benchmarks.client import exchange, request, send_all
from benchmarks.overload.arrivals import Step, offer
from benchmarks.overload.figures import Bench, Figure, cpu_quota, median, percentile
from benchmarks.overload.requests import capacity, reads
from benchmarks.serving import EMAIL, PASSWORD, SERVE, Server, log_in, serving

_LOGINS = 200
_ROUNDS = 5
_LIMITED_ROUNDS = 3

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


@dataclass(slots=True)
class Found:
    """Of one server: the rate of reads, then a value a round, and what its memory is in the end."""

    rate: float = 0.0
    calm_ms: list[float] = field(default_factory=list)
    storm_ms: list[float] = field(default_factory=list)
    refused_percent: list[float] = field(default_factory=list)
    lasted: list[float] = field(default_factory=list)
    memory_mib: tuple[float, float] = (math.nan, math.nan)

    @property
    def ratios(self) -> tuple[float, ...]:
        """The reads' p99 during the storm, as a multiple of what it is without at the same rate."""
        return tuple(storm / calm for storm, calm in zip(self.storm_ms, self.calm_ms, strict=True))


def measure(bench: Bench) -> list[Figure]:
    """One worker on one core; then, where a control group can be made, on all cores with a CPU limit of one, as in a pod, also without the rests."""
    core = {min(bench.cores)}
    with serving(SERVE, bench.environment, "/healthz", cores=core) as server:
        found = _storms(bench, server, "one core", rounds=_ROUNDS)
    figures = [
        Figure("reads offered", found.rate, unit="/s"),
        Figure("p99 of reads", median(found.calm_ms), unit="ms", rounds=tuple(found.calm_ms)),
        Figure("p99 of reads during the storm", median(found.storm_ms), unit="ms", rounds=tuple(found.storm_ms)),
        Figure("ratio", median(list(found.ratios)), at_most=2.0, rounds=found.ratios),
        Figure("reads refused during the storm", median(found.refused_percent), at_most=_MOST_REFUSED_PERCENT, unit="%"),
        Figure("until all 200 are logged in", median(found.lasted), unit="s", rounds=tuple(found.lasted)),
        Figure("memory of the arbiter after the storms", found.memory_mib[0], at_most=BASE_MEMORY_MIB, unit="MiB"),
        Figure("of the worker, beside what they share", found.memory_mib[1], at_most=MEMORY_PER_WORKER_MIB, unit="MiB"),
    ]
    with cpu_quota(100) as group:
        if group is not None:
            restless_command = (sys.executable, "-m", "benchmarks.overload.variants", "restless")
            with serving(SERVE, bench.environment, "/healthz", cores=bench.cores, group=group) as server:
                limited = _storms(bench, server, "a CPU limit", rounds=_LIMITED_ROUNDS)
            with serving(restless_command, bench.environment, "/healthz", cores=bench.cores, group=group) as server:
                restless = _storms(bench, server, "a CPU limit, hashing never rests", rounds=_LIMITED_ROUNDS)
            figures += [
                Figure(
                    "all cores and a CPU limit of one: ratio, and when hashing never rests",
                    median(list(limited.ratios)),
                    without=median(list(restless.ratios)),
                    at_most=2.0,
                    rounds=limited.ratios,
                ),
                Figure("p99 of reads during the storm", median(limited.storm_ms), without=median(restless.storm_ms), unit="ms"),
                Figure("until all 200 are logged in", median(limited.lasted), without=median(restless.lasted), unit="s"),
            ]
    return figures


def _storms(bench: Bench, server: Server, where: str, *, rounds: int) -> Found:
    found = Found()
    make = reads(bench, log_in(server))
    asyncio.run(send_all(server.port, make(500), connections=16, expected_status=None))
    found.rate = _OF_CAPACITY * capacity(server, make)
    for number in range(1, rounds + 1):
        with bench.console.status(f"{_LOGINS} logins at once, {where}: round {number} of {rounds}"):
            calm, _ = offer(server.port, make, rate=found.rate, seconds=_SECONDS, seed=number, beside=_no_storm)
            stormy, storm = offer(server.port, make, rate=found.rate, seconds=_SECONDS, seed=number, beside=lambda: _storm(server.port))
        until = min(storm.lasted, _SECONDS)
        found.calm_ms.append(_p99(calm, until))
        found.storm_ms.append(_p99(stormy, until))
        found.refused_percent.append(100 * stormy.refused)
        found.lasted.append(storm.lasted - _CALM_SECONDS)
    found.memory_mib = server.memory_mib()
    return found


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
