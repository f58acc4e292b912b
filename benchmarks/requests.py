"""`make bench`: what Stockroom's requests cost beside the floor, as a table and as JSON.

One run, side by side: both servers have one worker pinned to the first core, the client is pinned to the second, PostgreSQL runs where it likes. Each
figure is the worker's CPU time divided by the requests it answered; rounds are interleaved, and the median of their ratios counts.
A third server, which tells nothing of its requests (`benchmarks/silent.py`), shows what log, metrics and sampling cost a product read.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import uvloop
from rich.console import Console
from rich.table import Table

from app.core import migrations
from app.core.embedded import EmbeddedPostgres
from benchmarks import shop
from benchmarks.client import request, send_all
from benchmarks.serving import EMAIL, PASSWORD, SERVE, Server, create_user, environment, log_in, serving

_CONNECTIONS = 32
_MOST_RESIDENT_MIB = 130
_WARM_UP = 300
_SLICES = 5
_PRODUCT = "product by id"
_MOST_FOR_TELLING = 0.15
_SILENT = (sys.executable, "-m", "benchmarks.silent")

_Requests = Callable[[int], list[bytes]]


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of request.

    Args:
        name: for the table.
        at_most: the limit of its ratio to the floor.
        count: how many a round.
        status: what every answer must be.
        make: the requests' bytes.
        connections: how many keep-alive connections share them.
    """

    name: str
    at_most: float
    count: int
    status: int
    make: _Requests
    connections: int = _CONNECTIONS


def main() -> int:
    """Run the benchmark; 1 when a limit is passed."""
    options = _options()
    console = Console()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stockroom-bench-", ignore_cleanup_errors=True)))
        database = EmbeddedPostgres(folder)
        stack.callback(database.remove)
        database.start()
        url = database.database_url
        migrations.upgrade(url)
        with console.status(f"making {options.products} products …"):
            shop.fill(url, products=options.products)
        variables = environment(folder, url)
        create_user(variables)
        cores = os.sched_getaffinity(0)
        ours = stack.enter_context(serving(SERVE, variables, "/healthz", cores={min(cores)}))
        floor = stack.enter_context(serving(_floor_command(), variables, "/api/v1/products", cores={min(cores)}))
        silent = stack.enter_context(serving(_SILENT, variables, "/healthz", cores={min(cores)}))
        os.sched_setaffinity(0, {max(cores)})
        cases = [case for case in _cases(ours, url) if options.only in case.name]
        samples = _measure(cases, (ours, floor), silent, options.rounds, console)
        resident_mib = ours.worker.memory_info().rss / 2**20
    return _report(cases, samples, resident_mib, options.json, console)


def _cases(ours: Server, url: str) -> list[Case]:
    bearer = log_in(ours)
    page = httpx.get(f"{ours.url}/api/v1/products?limit=100", headers=bearer).json()["items"]
    ids = [item["id"] for item in page]
    skus = [variant["sku"] for item in page for variant in item["variants"]]

    def reserving(count: int) -> list[bytes]:
        bodies = (
            json.dumps({"lines": [{"sku": random.choice(skus), "quantity": 1}], "expires_in_seconds": 900}).encode() for _ in range(count)
        )
        return [
            request("POST", "/api/v1/reservations", {**bearer, "Content-Type": "application/json", "Idempotency-Key": uuid4().hex}, body)
            for body in bodies
        ]

    def reading(paths: Sequence[str]) -> _Requests:
        return lambda count: [request("GET", random.choice(paths), bearer) for _ in range(count)]

    form = urlencode({"username": EMAIL, "password": PASSWORD}).encode()
    return [
        Case(_PRODUCT, 2.0, 3000, 200, reading([f"/api/v1/products/{product_id}" for product_id in ids])),
        Case("page of 20 products", 1.8, 3000, 200, reading(["/api/v1/products?limit=20"])),
        Case("variant by SKU", 2.0, 3000, 200, reading([f"/api/v1/variants/{sku}" for sku in skus])),
        Case("reserve one line", 2.5, 1000, 201, reserving),
        Case(
            "commit",
            2.5,
            1000,
            200,
            lambda count: [request("POST", f"/api/v1/reservations/{held}/commit", bearer) for held in shop.hold(url, count)],
        ),
        Case(
            "login",
            1.1,
            60,
            200,
            lambda count: [request("POST", "/api/v1/auth/login", {"Content-Type": "application/x-www-form-urlencoded"}, form)] * count,
            connections=2,
        ),
    ]


def _measure(
    cases: Sequence[Case], servers: Sequence[Server], silent: Server, rounds: int, console: Console
) -> dict[str, list[list[float]]]:
    """CPU microseconds a request, ours, the floor's, and of a product the silent one's, by case and round."""
    samples: dict[str, list[list[float]]] = {case.name: [] for case in cases}
    for number in range(rounds + 1):
        for case in cases:
            with console.status(f"round {number} of {rounds}: {case.name}" if number else f"warming up: {case.name}"):
                measured = (*servers, silent) if case.name == _PRODUCT else servers
                costs = _round(case, measured, case.count if number else min(case.count, _WARM_UP))
            if number:
                samples[case.name].append(costs)
    return samples


def _round(case: Case, servers: Sequence[Server], count: int) -> list[float]:
    """CPU microseconds a request of each server, taking turns in slices, so that what else the machine does hits all alike."""
    slices = [[_cost(case, server, count // _SLICES) for server in servers] for _ in range(_SLICES)]
    return [statistics.fmean(costs) for costs in zip(*slices, strict=True)]


def _cost(case: Case, server: Server, count: int) -> float:
    requests = case.make(count)
    before = server.cpu_seconds()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send_all(server.port, requests, connections=case.connections, expected_status=case.status))
    # The last answer is sent before its log line and metric are written.
    time.sleep(0.05)
    return (server.cpu_seconds() - before) / count * 1e6


def _report(cases: Sequence[Case], samples: dict[str, list[list[float]]], resident_mib: float, file: Path | None, console: Console) -> int:
    table = Table("request", "ours µs", "floor µs", "ratio", "at most", "rounds", title="server CPU per request, medians")
    results, failed = [], []
    for case in cases:
        ratios = [ours / floor for ours, floor, *_ in samples[case.name]]
        ratio = statistics.median(ratios)
        ours, floor, *_ = (statistics.median(column) for column in zip(*samples[case.name], strict=True))
        if ratio > case.at_most:
            failed.append(case.name)
        table.add_row(
            case.name,
            f"{ours:.0f}",
            f"{floor:.0f}",
            f"[{'red' if ratio > case.at_most else 'green'}]{ratio:.2f}[/]",
            f"{case.at_most}",
            f"{min(ratios):.2f}…{max(ratios):.2f}",
        )
        results.append(
            {"request": case.name, "ours_us": ours, "floor_us": floor, "ratio": ratio, "at_most": case.at_most, "ratios": ratios}
        )
    console.print(table)
    console.print(f"worker resident after the run: {resident_mib:.0f} MiB (at most {_MOST_RESIDENT_MIB})")
    if resident_mib > _MOST_RESIDENT_MIB:
        failed.append("resident memory")
    shares = [(ours - silent) / ours for ours, _, silent in samples.get(_PRODUCT, [])]
    if shares:
        share, least, most = statistics.median(shares), min(shares), max(shares)
        console.print(
            f"log, metrics and sampling: {share:.1%} of a product read's CPU (at most {_MOST_FOR_TELLING:.0%}; rounds {least:.1%}…{most:.1%})"
        )
        if share > _MOST_FOR_TELLING:
            failed.append("log, metrics and sampling")
    if file is not None:
        figures = {"requests": results, "resident_mib": resident_mib, "telling_shares": shares, "failed": failed}
        file.write_text(json.dumps(figures, indent=2) + "\n")
    if failed:
        console.print(f"over the limit: {', '.join(failed)}", style="red")
    return 1 if failed else 0


def _floor_command() -> list[str]:
    return [
        sys.executable,
        "-c",
        "import os, uvicorn; uvicorn.run('benchmarks.floor:app', port=int(os.environ['APP_PORT']), access_log=False, log_level='warning')",
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=10_000, help="how many products there are")
    parser.add_argument("--rounds", type=int, default=5, help="how many times everything is measured")
    parser.add_argument("--only", default="", help="only requests with this in their name")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
