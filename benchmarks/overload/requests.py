"""The requests of the load, and how many of them a server can take."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from uuid import uuid4

import uvloop

from benchmarks.client import connected, request, send_over
from benchmarks.overload.arrivals import CONNECTIONS
from benchmarks.overload.figures import Bench
from benchmarks.serving import Server

_REQUESTS = 1500


def reads(bench: Bench, bearer: dict[str, str]) -> Callable[[int], list[bytes]]:
    """Products by id, pages of 20 products, and variants by SKU, 12 : 4 : 3."""
    by_id = [request("GET", f"/api/v1/products/{product}", bearer) for product in bench.ids]
    page = [request("GET", "/api/v1/products?limit=20", bearer)]
    variants = [request("GET", f"/api/v1/variants/{sku}", bearer) for sku in bench.skus]
    kinds, weights = (by_id, page, variants), (12, 4, 3)
    return lambda count: [random.choice(kind) for kind in random.choices(kinds, weights, k=count)]


def mix(bench: Bench, bearer: dict[str, str]) -> Callable[[int], list[bytes]]:
    """The reads, and among each 20 requests a reservation."""
    reading = reads(bench, bearer)

    def make(count: int) -> list[bytes]:
        made = reading(count)
        for number in random.sample(range(count), count // 20):
            made[number] = reservation(bench, bearer, uuid4().hex)
        return made

    return make


def reservation(bench: Bench, bearer: dict[str, str], key: str) -> bytes:
    """Hold one unit of one SKU."""
    body = json.dumps({"lines": [{"sku": random.choice(bench.skus), "quantity": 1}], "expires_in_seconds": 86_400}).encode()
    return request("POST", "/api/v1/reservations", {**bearer, "Content-Type": "application/json", "Idempotency-Key": key}, body)


def capacity(server: Server, make: Callable[[int], list[bytes]]) -> float:
    """Requests served a second when there is always a next one."""
    seconds, _ = send(server, make(_REQUESTS), at_once=16, expected_status=None)
    return _REQUESTS / seconds


def send(server: Server, requests: list[bytes], *, at_once: int, expected_status: int | None) -> tuple[float, float]:
    """Send requests, a number at once, each over the next of as many connections as are offered more: a few would be served from warm caches.

    Args:
        server: that has one worker.
        requests: their bytes.
        at_once: how many wait for an answer.
        expected_status: of every answer; None for any that is a success.

    Returns:
        How long that took, and what it cost the worker, both in seconds; without connecting.
    """

    async def sent() -> tuple[float, float]:
        async with connected(server.port, CONNECTIONS) as free:
            # Accepted a little later than connected.
            await asyncio.sleep(0.1)
            began, cpu_began = time.perf_counter(), server.cpu_seconds()
            await send_over(free, requests, at_once=at_once, expected_status=expected_status)
            seconds = time.perf_counter() - began
            # The last answer is sent before its log line and metric are written.
            await asyncio.sleep(0.05)
            return seconds, server.cpu_seconds() - cpu_began

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(sent())
