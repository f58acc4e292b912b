"""`make bench-scale`: what a page of 20 of every list costs in a shop of a million products beside one of ten thousand, as a table and as JSON.

Every list that OpenAPI names is asked for through the application, with every combination of its filters, the first page and a deep one. The statement that
comes of it is then run on both shops by turns. Its cost is the CPU time of PostgreSQL's process for that connection, which other programs disturb
little: reading pages that are not in `shared_buffers` (128 MB, shared by the shops) counts in it, waiting for a disk does not. Each page is asked for
again and again, so both shops are warm. Where the small shop has too few for a full page, its dearest full page of the same list is the measure.
No plan on the large shop, generic or custom, may read or sort a table whole.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import psutil
import psycopg
from joserfc.jwk import ECKey
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import make_url
from starlette.requests import Request

from app.api.pagination import next_cursor
from app.core import migrations
from app.core.config import Settings
from app.core.db import Database
from app.core.embedded import EmbeddedPostgres
from app.core.process import Process
from app.core.security import scopes_of
from app.core.statements import Parameters
from app.main import create_app
from benchmarks import large_shop
from benchmarks.large_shop import LOCATIONS, changed_at, number_id
from benchmarks.plans import Explaining, assert_walks_an_index, pages_touched

_AT_MOST = 1.5
_LIMIT = 20
_MOST_PAGES = 10_000
_WARM_UP, _ROUNDS, _RUNS = 10, 41, 3

_Query = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """One page of one list.

    Args:
        path: the list's.
        name: its filters in short, for the table.
        query: its filters.
        after: the sort key to continue after; None for the first page.
    """

    path: str
    name: str
    query: _Query
    after: tuple[str, ...] | None

    @property
    def url(self) -> str:
        """The request's target."""
        query = [*self.query, ("limit", str(_LIMIT))]
        if self.after is not None:
            scope = {"type": "http", "path": self.path, "query_string": urlencode(self.query).encode(), "headers": []}
            query.append(("cursor", next_cursor(Request(scope), self.after)))
        return f"{self.path}?{urlencode(query)}"


@dataclass(frozen=True, slots=True)
class Page:
    """What came of it.

    Args:
        items: how many were on the page.
        database_pages: how many pages of the database it took.
        query: the statement.
        parameters: the statement's.
    """

    items: int
    database_pages: int
    query: str
    parameters: Parameters


def lists(products: int) -> dict[str, dict[str, list[tuple[str, _Query]]]]:
    """The values to ask for by list and filter, each with a short name: something that many have, and something that few have."""

    def some(name: str, *values: str) -> list[tuple[str, _Query]]:
        return [(value, ((name, value),)) for value in values]

    hundred = tuple(("sku", f"SKU-{2 * (products // 100 * number)}") for number in range(100))
    places = some("location", "L0", f"L{LOCATIONS - 1}")
    return {
        "/api/v1/products": {
            "status": some("status", "active", "draft", "archived"),
            "category": [*some("category", "root-0"), ("leaf-0 by id", (("category", str(number_id(large_shop.FIRST_LEAF))),))],
            "tag": some("tag", "tag-0", "rare"),
            "updated_since": some("updated_since", changed_at(products, 0).isoformat()),
        },
        "/api/v1/categories": {"parent_id": [("root-0", (("parent_id", str(number_id(0))),))]},
        "/api/v1/locations": {},
        "/api/v1/stock": {"sku": [*some("sku", "SKU-0"), ("100 SKUs", hundred)], "location": places},
        "/api/v1/stock/movements": {"sku": some("sku", "SKU-0"), "location": places},
        "/api/v1/users": {},
    }


def deep(path: str, filters: Sequence[str], products: int) -> tuple[str, ...]:
    """A sort key in the middle of a list."""
    match path:
        case "/api/v1/products" if "updated_since" in filters:
            return changed_at(products, 0.5).isoformat(), str(number_id(0))
        case "/api/v1/products":
            return (str(number_id(products // 2)),)
        case "/api/v1/categories" if filters:
            return (str(number_id(large_shop.FIRST_LEAF // 2)),)
        case "/api/v1/categories":
            return (str(number_id(large_shop.FIRST_LEAF + products // 100)),)
        case "/api/v1/stock":
            return str(number_id(products)), str(number_id(0))
        case "/api/v1/stock/movements":
            return (str(number_id(large_shop.MOVEMENTS_A_PRODUCT * products // 2)),)
        case _:
            return (str(number_id(25)),)


def asks(products: int) -> list[Ask]:
    """Every list with every combination of its filters' values, first page and deep."""
    found = []
    for path, filters in lists(products).items():
        for chosen in product(*([None, *values] for values in filters.values())):
            given = {name: value for name, value in zip(filters, chosen, strict=True) if value is not None}
            name = ", ".join(value[0] if filter_name != "updated_since" else "updated_since" for filter_name, value in given.items())
            query = tuple(pair for _, pairs in given.values() for pair in pairs)
            found += [Ask(path, name or "all", query, after) for after in (None, deep(path, list(given), products))]
    return found


def check_completeness(openapi: Mapping[str, Any]) -> None:
    """See that `lists` has every list and every filter of the API.

    Raises:
        AssertionError: it has not, or has too many.
    """
    named = {}
    for path, operations in openapi["paths"].items():
        shape = (
            operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        )
        if shape.get("$ref", "").startswith("#/components/schemas/PageOut"):
            named[path] = {field["name"] for field in operations["get"]["parameters"] if field["in"] == "query"} - {"limit", "cursor"}
    known = {path: set(filters) for path, filters in lists(large_shop.FEWEST_PRODUCTS).items()}
    assert known == named, f"give benchmarks/scale.py values for every list and filter of the API: {named}"


class Shop:
    """One shop, and a connection to measure on."""

    def __init__(self, url: str, products: int) -> None:
        self.url = url
        self.products = products
        self.asks = asks(products)
        self._connection = psycopg.connect(url, autocommit=True)
        self._backend = psutil.Process(self._connection.info.backend_pid)
        if hasattr(os, "sched_setaffinity"):
            # Both shops on one core: beside a busy neighbour one of them would run slower.
            os.sched_setaffinity(self._backend.pid, {max(os.sched_getaffinity(0))})

    def run(self, page: Page, times: int) -> float:
        """CPU microseconds a run of the page's statement, the mean of so many."""
        before = self._cpu_seconds()
        for _ in range(times):
            self._connection.execute(page.query.encode(), page.parameters, prepare=True, binary=True).fetchall()
        return (self._cpu_seconds() - before) / times * 1e6

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _cpu_seconds(self) -> float:
        try:
            # Linux: nanoseconds, where /proc/<pid>/stat counts hundredths of a second.
            return int(Path(f"/proc/{self._backend.pid}/schedstat").read_text().split()[0]) / 1e9
        except OSError:
            times = self._backend.cpu_times()
            return float(times.user + times.system)


class _ExplainedDatabase(Database):
    """Reads go to a session that keeps what it did."""

    session: Explaining

    def read(self) -> Explaining:
        return self.session


async def ask_all(shop: Shop, mode: str, *, assert_plans: bool) -> list[Page]:
    """Ask for every page through the application.

    Args:
        mode: PostgreSQL's `plan_cache_mode`.
        assert_plans: whether to look at what the plans do.

    Raises:
        AssertionError: a page was refused, or its plan reads or sorts a table whole.
    """
    settings = Settings(
        _env_file=None,
        database_url=SecretStr(shop.url),
        signing_keys=SecretStr(ECKey.generate_key("P-256").as_pem(private=True).decode()),
        log_level="error",
    )
    app = create_app(settings)
    check_completeness(app.openapi())
    found = []
    async with (
        app.router.lifespan_context(app),
        await psycopg.AsyncConnection.connect(shop.url, autocommit=True) as connection,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        process: Process = app.state.process
        database = _ExplainedDatabase(shop.url, settings, pool_size=1)
        app.state.process = replace(process, database=database)
        bearer = {"Authorization": f"Bearer {process.tokens.issue(uuid4(), scopes_of(['admin']), 1)}"}
        await connection.execute(f"SET plan_cache_mode = {mode}".encode())
        for ask in shop.asks:
            database.session = session = Explaining(connection)
            answer = await client.get(ask.url, headers=bearer)
            assert answer.status_code == httpx.codes.OK, f"{ask.url}: {answer.text}"
            if assert_plans:
                try:
                    assert_walks_an_index(session.plan, most_pages=_MOST_PAGES)
                except AssertionError as error:
                    raise AssertionError(f"{ask.url} with {mode}: {error}") from None
            found.append(Page(len(answer.json()["items"]), pages_touched(session.plan), session.query, session.parameters))
    return found


@dataclass(frozen=True, slots=True)
class Cost:
    """What a page costs in the large shop, and what the page that it is compared with costs in the small one: medians, in CPU microseconds."""

    small_us: float
    large_us: float
    ratio: float


def measure(small: Shop, large: Shop, pages: Sequence[tuple[Page, Page]], paths: Sequence[str], console: Console) -> list[Cost]:
    """The costs of pages, each first in the small shop and then in the large one."""
    found: dict[int, Cost] = {}
    dearest: dict[str, tuple[float, Page]] = {}
    with console.status("measuring …") as status:
        for number in sorted(range(len(pages)), key=lambda number: pages[number][0].items < _LIMIT):
            status.update(f"measuring {len(found) + 1} of {len(pages)}")
            (in_small, in_large), path = pages[number], paths[number]
            is_full = in_small.items == _LIMIT
            found[number] = cost = _compare(small, in_small if is_full else dearest[path][1], large, in_large)
            if is_full and cost.small_us > dearest.get(path, (0.0,))[0]:
                dearest[path] = cost.small_us, in_small
    return [found[number] for number in range(len(pages))]


def _compare(small: Shop, in_small: Page, large: Shop, in_large: Page) -> Cost:
    for shop, page in ((small, in_small), (large, in_large)):
        shop.run(page, _WARM_UP)
    rounds = [(small.run(in_small, _RUNS), large.run(in_large, _RUNS)) for _ in range(_ROUNDS)]
    columns = (*zip(*rounds, strict=True), [in_large_us / in_small_us for in_small_us, in_large_us in rounds])
    return Cost(*(statistics.median(column) for column in columns))


def main() -> int:
    """Run the benchmark; 1 when a page costs more than it may."""
    options = _options()
    console = Console()
    console.width = max(console.width, 120)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stockroom-scale-", ignore_cleanup_errors=True)))
        server = EmbeddedPostgres(folder, durable=False)
        stack.callback(server.remove)
        server.start()
        shops = []
        for products in (options.small, options.large):
            started = time.monotonic()
            with console.status(f"loading {products:,} products …"):
                url, size_bytes = _load(server, products)
            console.print(f"{products:,} products: {size_bytes / 2**20:,.0f} MiB, loaded in {time.monotonic() - started:.0f} s")
            shops.append(Shop(url, products))
            stack.callback(shops[-1].close)
        small, large = shops
        with console.status("asking for every page of every list, and looking at the plans …"):
            asyncio.run(ask_all(large, "force_custom_plan", assert_plans=True))
            in_large = asyncio.run(ask_all(large, "force_generic_plan", assert_plans=True))
            in_small = asyncio.run(ask_all(small, "force_generic_plan", assert_plans=False))
        pages = list(zip(in_small, in_large, strict=True))
        costs = measure(small, large, pages, [ask.path for ask in small.asks], console)
        return _report(small.asks, pages, costs, options.json, console)


def _load(server: EmbeddedPostgres, products: int) -> tuple[str, int]:
    """Makes a database and a shop in it; gives the application role's URL and the size on disk."""
    name = f"shop_{products}"
    url, admin_url = (
        make_url(url).set(database=name).render_as_string(hide_password=False) for url in (server.database_url, server.admin_url)
    )
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER stockroom".encode())
    migrations.upgrade(url)
    large_shop.fill(admin_url, products=products)
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT pg_database_size(current_database())").fetchall()
    return url, rows[0][0]


def _report(asked: Sequence[Ask], pages: Sequence[tuple[Page, Page]], costs: Sequence[Cost], file: Path | None, console: Console) -> int:
    table = Table(
        "list",
        "filters",
        "page",
        "items",
        "database pages",
        "small µs",
        "large µs",
        "ratio",
        title="PostgreSQL CPU a page of 20, medians",
        box=None,
    )
    results = []
    for ask, (in_small, in_large), cost in zip(asked, pages, costs, strict=True):
        is_full = in_small.items == _LIMIT
        results.append(
            {
                "path": ask.path,
                "filters": ask.name,
                "deep": ask.after is not None,
                "items": [in_small.items, in_large.items],
                "database_pages": [in_small.database_pages, in_large.database_pages],
                "compared_with": "the same page" if is_full else "the dearest full page",
                **asdict(cost),
            }
        )
        table.add_row(
            ask.path.removeprefix("/api/v1"),
            ask.name,
            "first" if ask.after is None else "deep",
            f"{in_small.items} {in_large.items}",
            f"{in_small.database_pages} {in_large.database_pages}",
            f"{cost.small_us:.0f}" if is_full else f"({cost.small_us:.0f})",
            f"{cost.large_us:.0f}",
            f"[{'red' if cost.ratio > _AT_MOST else 'green'}]{cost.ratio:.2f}[/]",
        )
    console.print(table)
    over = sum(cost.ratio > _AT_MOST for cost in costs)
    if file is not None:
        file.write_text(json.dumps({"at_most": _AT_MOST, "lists": results}, indent=2) + "\n")
    console.print(f"{over} of {len(costs)} pages cost more than {_AT_MOST} times as much", style="red" if over else "green")
    return 1 if over else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=large_shop.FEWEST_PRODUCTS, help="how many products the small shop has")
    parser.add_argument("--large", type=int, default=1_000_000, help="how many products the large shop has")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
