"""Four workers and 64 clients who keep their connections: how evenly the requests fall."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import uvloop

from benchmarks.client import exchange
from benchmarks.overload.figures import Bench, Figure, median
from benchmarks.overload.requests import reads
from benchmarks.serving import SERVE, Server, log_in, serving

_WORKERS = 4
_CLIENTS = 64
_ROUNDS = 5
_SECONDS = 2.0


def measure(bench: Bench) -> list[Figure]:
    """The largest share of one worker."""
    with serving(SERVE, bench.variables(cpu_limit=_WORKERS), "/healthz", cores=bench.cores) as server:
        assert len(server.workers) == _WORKERS
        make = reads(bench, log_in(server))
        with (
            bench.console.status(f"{_CLIENTS} clients of {_WORKERS} workers …"),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            shares = [100 * runner.run(_largest_share(server, make)) for _ in range(_ROUNDS)]
    return [Figure("requests that the busiest of 4 workers took", median(shares), at_most=40, unit="%", rounds=tuple(shares))]


async def _largest_share(server: Server, make: Callable[[int], list[bytes]]) -> float:
    owners: dict[int, int] = {}
    taken: Counter[int] = Counter()
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(_CLIENTS)]
    # One request each, so that all are accepted before their owners are looked up.
    await asyncio.gather(*(exchange(reader, writer, make(1)[0]) for reader, writer in connections))
    for worker in server.workers:
        owners |= {connection.raddr.port: worker.pid for connection in worker.net_connections("tcp") if connection.raddr}

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        owner = owners[writer.get_extra_info("sockname")[1]]
        while time.monotonic() < end:
            status, _, _ = await exchange(reader, writer, make(1)[0])
            assert status == 200
            taken[owner] += 1
        writer.close()

    end = time.monotonic() + _SECONDS
    await asyncio.gather(*(work(reader, writer) for reader, writer in connections))
    return max(taken.values()) / taken.total()
