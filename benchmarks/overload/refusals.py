"""At three times what one worker can serve: what refusals cost, what is still served, how long that takes, and whether the probes are answered.

The worker has one core, which is less than the generator and PostgreSQL need to bring it there. Beside it: the same under a CPU limit below a core, where the
kernel stops a worker that has used it up for the rest of each tenth of a second; all latencies are longer by that, and each stop leaves colder caches.

The load is 60 % products by id, 20 % pages of 20 products, 15 % variants by SKU and 5 % reservations of one line, each with a key of its own.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.client import request, send_all
from benchmarks.overload.arrivals import Step, offer
from benchmarks.overload.figures import QUOTA_PERCENT, Bench, Figure, awake_cores, median
from benchmarks.overload.requests import capacity, mix, send
from benchmarks.serving import SERVE, Server, log_in, serving

_ROUNDS = 21
_LIMITED_ROUNDS = 3
_COST_ROUNDS = 5
_OVER_CAPACITY = 1.1
"""Of what it serves when there is always a next request: arrivals at random come in clumps, and a little more keeps it busy between them."""

_COST_REQUESTS = 1500
_STEP_SECONDS = 5.0
_PROBE_SECONDS = 0.25
"""Forty times as often as a kubelet: what probes cost is not to be what is measured."""

_MOST_PROBE_SECONDS = 5.0


@dataclass(slots=True)
class Found:
    """Of one server, a value a round. The peak is what it serves a second when it is just full, before and after the overload: the machine's pace changes."""

    capacity: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    at_80: list[Step] = field(default_factory=list)
    at_300: list[Step] = field(default_factory=list)
    slowest_probe: list[float] = field(default_factory=list)


def measure(bench: Bench) -> list[Figure]:
    """With admission and without; and under a CPU limit. Cores stay awake meanwhile: what a request costs at several loads is compared."""
    with awake_cores() as awake:
        if not awake:
            bench.console.print("idle cores sleep, since /dev/cpu_dma_latency cannot be had: figures may vary more (docs/decisions/0014)")
        return _measured(bench)


def _measured(bench: Bench) -> list[Figure]:
    admitted_us, refused_us, bare_us = _costs(bench)
    share = statistics.median(refused / admitted for refused, admitted in zip(refused_us, admitted_us, strict=True))
    bound = (1 - 3 * share) / (1 - share)
    # One after the other: one without admission works off what nobody waits for any more.
    ours = _load(bench, SERVE, "with admission", rounds=_ROUNDS)
    without = _load(bench, (sys.executable, "-m", "benchmarks.overload.variants", "unlimited"), "without admission", rounds=1)

    def figure(name: str, of: Callable[[Found], Sequence[float]], **limits: float | str) -> Figure:
        values = of(ours)
        return Figure(name, median(list(values)), without=median(list(of(without))), rounds=tuple(values), **limits)  # type: ignore[arg-type]

    return [
        Figure("CPU of an admitted request", statistics.median(admitted_us), unit="µs"),
        Figure("CPU of a refused request", statistics.median(refused_us), unit="µs"),
        Figure("CPU of a bare 503", statistics.median(bare_us), unit="µs"),
        Figure("a refused request / a bare 503", statistics.median(refused_us) / statistics.median(bare_us), at_most=2.0),
        Figure("r: a refused request / an admitted one", share),
        Figure("the bound of the goodput at 3x, (1-3r)/(1-r)", bound),
        figure("peak goodput", lambda found: found.peak, unit="/s"),
        # Were it less when just full, what follows would be compared with too little.
        figure(
            "peak / served when there is always a next one",
            lambda found: [peak / capacity for peak, capacity in zip(found.peak, found.capacity, strict=True)],
            at_least=0.9,
        ),
        # Should the peak after it turn out higher than the one before, it offered less than three times their mean.
        figure(
            "offered at 3x / peak",
            lambda found: [step.rate / peak for step, peak in zip(found.at_300, found.peak, strict=True)],
            at_least=2.85,
        ),
        figure("goodput at 3x / peak", _goodput, at_least=0.75),
        figure("goodput at 3x / bound", lambda found: [ratio / bound for ratio in _goodput(found)], at_least=0.95),
        figure("not served at 80 %", lambda found: [step.refused for step in found.at_80]),
        figure("p99 of admitted at 80 %", lambda found: [step.latency_ms(99) for step in found.at_80], unit="ms"),
        figure("p99 of admitted at 3x", lambda found: [step.latency_ms(99) for step in found.at_300], unit="ms"),
        figure("p99 at 3x / p99 at 80 %", _p99, at_most=3.0),
        figure("slowest /livez or /healthz at 3x", lambda found: [max(found.slowest_probe)], unit="s", at_most=1.0),
        figure(
            "steps that the client could not send", lambda found: [sum(step.is_void for step in [*found.at_80, *found.at_300])], at_most=0
        ),
        *_limited(bench),
    ]


def _limited(bench: Bench) -> list[Figure]:
    """Under a CPU limit, where a control group can be made."""
    if bench.quota is None:
        return []
    where = f"under a CPU limit of {QUOTA_PERCENT * 10}m"
    found = _load(bench, SERVE, where, rounds=_LIMITED_ROUNDS, group=bench.quota)

    def figure(name: str, values: Sequence[float], unit: str = "") -> Figure:
        return Figure(f"{where}: {name}", median(list(values)), unit=unit, rounds=tuple(values))

    return [
        figure("peak goodput", found.peak, "/s"),
        figure("goodput at 3x / peak", _goodput(found)),
        figure("p99 of admitted at 80 %", [step.latency_ms(99) for step in found.at_80], "ms"),
        figure("p99 of admitted at 3x", [step.latency_ms(99) for step in found.at_300], "ms"),
    ]


def _goodput(found: Found) -> list[float]:
    return [step.goodput / peak for step, peak in zip(found.at_300, found.peak, strict=True)]


def _p99(found: Found) -> list[float]:
    return [high.latency_ms(99) / low.latency_ms(99) for high, low in zip(found.at_300, found.at_80, strict=True)]


def _costs(bench: Bench) -> tuple[list[float], list[float], list[float]]:
    """CPU microseconds of an admitted request, a refused one and a bare 503, each a value a round."""
    core = {min(bench.cores)}
    with ExitStack() as stack:
        ours = stack.enter_context(serving(SERVE, bench.environment, "/healthz", cores=core))
        servers: list[tuple[Server, int | None]] = [(ours, None)]
        for variant in ("refusing", "bare"):
            command = (sys.executable, "-m", "benchmarks.overload.variants", variant)
            servers.append((stack.enter_context(serving(command, bench.environment, "/livez", cores=core)), 503))
        make = mix(bench, log_in(ours))
        rounds = []
        for number in range(_COST_ROUNDS + 1):
            with bench.console.status(f"what refusals cost: round {number} of {_COST_ROUNDS}"):
                costs = [_cost(server, make(_COST_REQUESTS), status) for server, status in servers]
            if number:
                rounds.append(costs)
    admitted, refused, bare = (list(column) for column in zip(*rounds, strict=True))
    return admitted, refused, bare


def _cost(server: Server, requests: list[bytes], status: int | None) -> float:
    _, cpu_seconds = send(server, requests, at_once=32, expected_status=status)
    return cpu_seconds / len(requests) * 1e6


def _load(bench: Bench, command: Sequence[str], name: str, *, rounds: int, group: Path | None = None) -> Found:
    found = Found()
    with serving(command, bench.environment, "/healthz", cores={min(bench.cores)}, group=group) as server:
        make = mix(bench, log_in(server))
        for number in range(1, rounds + 1):
            with bench.console.status(f"overload {name}: round {number} of {rounds}"):
                _round(server, make, found, seed=number)
    return found


def _round(server: Server, make: Callable[[int], list[bytes]], found: Found, *, seed: int) -> None:
    most = capacity(server, make)
    full = _OVER_CAPACITY * most
    before, _ = offer(server.port, make, rate=full, seconds=_STEP_SECONDS, seed=seed, beside=_nothing)
    at_300, slowest = offer(
        server.port, make, rate=3 * before.goodput, seconds=_STEP_SECONDS, seed=seed, beside=lambda: _probe(server.port)
    )
    after, _ = offer(server.port, make, rate=full, seconds=_STEP_SECONDS, seed=seed, beside=_nothing)
    peak = (before.goodput + after.goodput) / 2
    at_80, _ = offer(server.port, make, rate=0.8 * peak, seconds=_STEP_SECONDS, seed=seed, beside=_nothing)
    found.capacity.append(most)
    found.peak.append(peak)
    found.at_80.append(at_80)
    found.at_300.append(at_300)
    found.slowest_probe.append(slowest)


async def _nothing() -> None: ...


async def _probe(port: int) -> float:
    """Ask for `/livez` and `/healthz` as a kubelet does, each time on a new connection, until cancelled; the longest it took, in seconds."""
    slowest = 0.0
    try:
        while True:
            for path in ("/livez", "/healthz"):
                began = time.perf_counter()
                try:
                    async with asyncio.timeout(_MOST_PROBE_SECONDS):
                        await send_all(port, [request("GET", path, {})], connections=1, expected_status=200)
                except (TimeoutError, OSError):
                    slowest = float("inf")
                slowest = max(slowest, time.perf_counter() - began)
            await asyncio.sleep(_PROBE_SECONDS)
    except asyncio.CancelledError:
        return slowest
