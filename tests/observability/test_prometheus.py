"""A server with two workers and a job worker, under load, and scraped by a real Prometheus: dashboards have data, alerts fire and end."""

import asyncio
import json
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from app.core import migrations
from app.core.config import Settings
from app.core.db import Database
from app.core.embedded import EmbeddedPostgres
from app.core.security import AccessTokens, scopes_of
from app.services import imports
from tests.observability import runbooks
from tests.observability.dashboards import FOLDER, NEEDS_KUBE_STATE_METRICS, NEEDS_YESTERDAY
from tests.observability.prometheus import NAMESPACE, NOT_HERE, PROGRAM, Prometheus, alerts_of, rule_groups, running_prometheus
from tests.serving.servers import Server, environment_of, free_port, serving, started, until
from tests.shop import API, a_product, reserve, stock_of

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=NOT_HERE)

CLIENTS = 20
SECONDS = 60.0
"""For what takes ten on an idle machine."""

CPU_GROUPS = Path("/sys/fs/cgroup/cpu")

IN_A_CRISIS = (
    "StockroomErrorBudgetBurnFast", "StockroomLatencyBudgetBurnFast", "StockroomPoolSaturated", "StockroomPoolTimeouts", "StockroomConnectionsNearPlan",
    "StockroomConnectionsAtPlan", "StockroomUnready", "StockroomJobBacklog", "StockroomJobsStalled", "StockroomReservationsNotExpiring",
)  # fmt: skip
UNTIL_RENEWED = ("StockroomNoJobWorker", "StockroomSigningKeyNearItsEnd")
BY_THEMSELVES = ("StockroomEventLoopLag", "StockroomPostgresUnread", "StockroomCpuThrottled", "StockroomDown")
LONG = {
    "StockroomErrorBudgetBurnSlow": "its end is shown by promtool: its shorter windows are hours",
    "StockroomLatencyBudgetBurnSlow": "its end is shown by promtool: its shorter windows are hours",
}
BY_PROMTOOL = {
    "StockroomPodsUnavailable": "its metrics are kube-state-metrics's",
    "StockroomCrashLooping": "its metrics are kube-state-metrics's",
    "StockroomMigrationFailed": "its metrics are kube-state-metrics's",
}
"""What test_rules.py shows instead, and why. Without control groups to write to it shows throttling, too."""

VARIABLES = {
    "$__rate_interval": "3s", "$__range": "30s", "$namespace": NAMESPACE, "$job": ".*", "$instance": ".*", "$availability": "99.9", "$latency": "99",
    "$slow": "0.25",
}  # fmt: skip


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of its own: on the run's are the connections of other tests."""
    folder = Path(tempfile.mkdtemp(prefix="stockroom-scraped-"))
    server = EmbeddedPostgres(folder, max_connections=60, durable=False)
    try:
        server.start()
        migrations.upgrade(server.database_url)
        yield server
    finally:
        server.remove()


class Shop:
    """What is scraped, and what befalls it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = settings.require_database_url()
        self.token = AccessTokens(settings).issue(uuid4(), scopes_of(["admin"]), 1)
        self.environment = {
            **environment_of(settings),
            "APP_CPU_LIMIT": "2",
            "APP_POOL_TIMEOUT_SECONDS": "0.4",
            # Pools of two.
            "APP_ARRIVAL_RATE_PER_WORKER_PER_SECOND": "1",
            "APP_JOB_WORKER_PODS": "1",
            "APP_SIGNING_KEY_EXPIRES_ON": str((datetime.now(UTC) + timedelta(days=3)).date()),
        }
        self.ports: dict[str, int] = {}

    def client(self, server: Server) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30)

    async def execute(self, *statements: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                await connection.execute(statement.encode())

    @asynccontextmanager
    async def under_load(self, server: Server) -> AsyncIterator[None]:
        """Clients that each read a product again and again, and one that sells."""
        async with self.client(server) as client:
            product = await a_product(client)
            sku = product["variants"][0]["sku"]
            await stock_of(client, sku, 1_000_000, f"L-{uuid4().hex[:6]}")
        tasks = [asyncio.create_task(self._read(server, product["id"])) for _ in range(CLIENTS)]
        tasks.append(asyncio.create_task(self._sell(server, sku)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Nobody can read a product."""
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            await connection.execute("LOCK TABLE product IN ACCESS EXCLUSIVE MODE")
            yield

    @asynccontextmanager
    async def crowded(self, prometheus: Prometheus) -> AsyncIterator[None]:
        """Somebody holds more connections than were planned for."""
        (planned,) = await prometheus.query("stockroom_planned_peak_connections")
        async with AsyncExitStack() as stack:
            for _ in range(int(planned)):
                with suppress(psycopg.OperationalError):
                    await stack.enter_async_context(await psycopg.AsyncConnection.connect(self.url))
            yield

    @asynccontextmanager
    async def without_workers(self, worker: Server) -> AsyncIterator[None]:
        """No job worker, a job that is late, one that a dead worker has left, and a reservation whose time is long up."""
        worker.process.terminate()
        await worker.process.wait()
        await self.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at) VALUES ('default', 'late', now() - interval '10 minutes')",
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('default', 'left', 'doing')",
            "UPDATE reservation SET expires_at = now() - interval '5 minutes' WHERE status = 'active'",
        )
        yield
        await self.execute(
            "DELETE FROM procrastinate_jobs WHERE task_name IN ('late', 'left')",
            "UPDATE reservation SET expires_at = now() + interval '5 minutes' WHERE status = 'active'",
        )

    @asynccontextmanager
    async def unreadable(self) -> AsyncIterator[None]:
        """PostgreSQL refuses what a scrape asks, and nothing else."""
        await self.execute("ALTER TABLE import_total RENAME TO hidden_total")
        yield
        await self.execute("ALTER TABLE hidden_total RENAME TO import_total")

    async def wronged(self, server: Server) -> None:
        """A fault of ours, and one of a client's: their series are there from then on."""
        await self.execute("ALTER TABLE category RENAME TO hidden_category")
        async with self.client(server) as client:
            assert (await client.get(f"{API}/categories")).status_code == 500
        await self.execute("ALTER TABLE hidden_category RENAME TO category")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"NO HTTP\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()

    @asynccontextmanager
    async def of_another_schema(self) -> AsyncIterator[None]:
        """The schema is none that the pods know."""
        await self.execute("ALTER TABLE alembic_version RENAME TO hidden_version")
        yield
        await self.execute("ALTER TABLE hidden_version RENAME TO alembic_version")

    async def _read(self, server: Server, product_id: str) -> None:
        # A connection each, so that both workers have some.
        async with self.client(server) as client:
            while True:
                with suppress(httpx.TransportError):
                    await client.get(f"{API}/products/{product_id}")
                await asyncio.sleep(0.1)

    async def _sell(self, server: Server, sku: str) -> None:
        async with self.client(server) as client:
            while True:
                with suppress(httpx.TransportError, KeyError):
                    for ending in ("commit", "release"):
                        held = (await reserve(client, {"sku": sku, "quantity": 1})).json()
                        await client.post(f"{API}/reservations/{held['id']}/{ending}")
                    await reserve(client, {"sku": sku, "quantity": 1})
                    await reserve(client, {"sku": sku, "quantity": 2_000_000})
                await asyncio.sleep(0.2)


@contextmanager
def a_cpu_group(server: Server) -> Iterator[Path | None]:
    """A control group around a server, without a limit yet; None where none can be made."""
    group = CPU_GROUPS / f"stockroom-test-{uuid4().hex[:8]}"
    try:
        group.mkdir()
        for process_id in (server.process.pid, *server.workers):
            (group / "cgroup.procs").write_text(str(process_id))
    except OSError:
        with suppress(OSError):
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (CPU_GROUPS / "cgroup.procs").write_text(left)
        group.rmdir()


@contextmanager
def held_back(group: Path) -> Iterator[None]:
    """The kernel lets it have a tenth of a core."""
    (group / "cpu.cfs_quota_us").write_text("10000")
    try:
        yield
    finally:
        (group / "cpu.cfs_quota_us").write_text("-1")


@asynccontextmanager
async def stumbling(server: Server) -> AsyncIterator[None]:
    """One worker is stopped again and again for longer than a second, as by something that blocks its loop; the other is not."""
    victim = max(server.workers)

    async def stumble() -> None:
        while True:
            for number, seconds in ((signal.SIGSTOP, 1.2), (signal.SIGCONT, 0.4)):
                os.kill(victim, number)
                await asyncio.sleep(seconds)

    task = asyncio.create_task(stumble())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        os.kill(victim, signal.SIGCONT)


async def fired(prometheus: Prometheus, *names: str) -> None:
    """Wait until all of them have."""
    missing = set(names)

    async def none_is_missing() -> bool:
        missing.difference_update(await prometheus.firing())
        return not missing

    try:
        await until(none_is_missing, SECONDS)
    except TimeoutError:
        pytest.fail(f"did not fire: {missing}; firing: {await prometheus.firing()}")


async def ended(prometheus: Prometheus, *names: str) -> None:
    """Wait until none of them fires any more."""

    async def none_fires() -> bool:
        return not (set(names) & await prometheus.firing())

    try:
        await until(none_fires, SECONDS)
    except TimeoutError:
        pytest.fail(f"goes on: {set(names) & await prometheus.firing()}")


async def test_dashboards_have_data_and_alerts_fire_and_end(settings: Settings, own_server: EmbeddedPostgres, tmp_path: Path) -> None:
    groups = rule_groups()
    assert {*IN_A_CRISIS, *LONG, *UNTIL_RENEWED, *BY_THEMSELVES, *BY_PROMTOOL} == alerts_of(groups).keys()
    shop = Shop(settings.model_copy(update={"database_url": SecretStr(own_server.database_url)}))
    worker_port = free_port()
    async with AsyncExitStack() as stack:
        database = Database(shop.url, shop.settings, pool_size=2)
        stack.push_async_callback(database.close)
        prometheus = await stack.enter_async_context(running_prometheus(tmp_path, groups))
        worker = await stack.enter_async_context(
            started({**shop.environment, "APP_WORKER_METRICS_PORT": str(worker_port)}, "-m", "app.cli", "worker")
        )
        async with serving(shop.environment) as server:
            assert len(server.workers) == 2
            prometheus.scrape({"stockroom": server.port, "stockroom-worker": worker_port})
            with a_cpu_group(server) as group:
                async with shop.under_load(server):
                    await imports.load_demo(database)
                    await shop.wronged(server)
                    await everything_has_data(prometheus, groups)
                    async with shop.locked(), shop.crowded(prometheus), shop.without_workers(worker), shop.of_another_schema():
                        await fired(prometheus, *IN_A_CRISIS, *LONG, *UNTIL_RENEWED)
                    async with stumbling(server):
                        await fired(prometheus, "StockroomEventLoopLag")
                    async with shop.unreadable():
                        await fired(prometheus, "StockroomPostgresUnread")
                    if group is not None:
                        with held_back(group):
                            await fired(prometheus, "StockroomCpuThrottled")
                    await ended(prometheus, *IN_A_CRISIS, *BY_THEMSELVES)
                    assert await prometheus.firing() <= {*UNTIL_RENEWED, *LONG}
        await fired(prometheus, "StockroomDown")
        # With another key, and a job worker again.
        renewed = {**shop.environment, "APP_SIGNING_KEY_EXPIRES_ON": "2199-12-31"}
        async with serving(renewed) as server, started(renewed, "-m", "app.cli", "worker"):
            prometheus.scrape({"stockroom": server.port})
            await ended(prometheus, "StockroomDown", *UNTIL_RENEWED)
            assert await prometheus.firing() <= LONG.keys()


async def everything_has_data(prometheus: Prometheus, groups: list[dict[str, Any]]) -> None:
    """Every panel of every dashboard, every recording rule and every query of a runbook, unless it says what it lacks here."""
    queries = {name: rule["expr"] for group in groups for rule in group["rules"] if (name := rule.get("record"))}
    for file in FOLDER.glob("*.json"):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                if NEEDS_KUBE_STATE_METRICS in panel["description"]:
                    assert "kube_" in target["expr"]
                elif NEEDS_YESTERDAY not in panel["description"]:
                    queries[f"{file.stem} / {panel['title']} {target['refId']}"] = filled_in(target["expr"])
    queries |= {f"{page} {number}": query for number, (page, query) in enumerate(runbooks.queries()) if "kube_" not in query}
    for name, query in queries.items():
        whole = without_conditions(query)
        with suppress(TimeoutError):
            await until(partial(prometheus.query, whole), SECONDS / 4)
        assert await prometheus.query(whole), f"{name}: {whole}"


def without_conditions(query: str) -> str:
    """What it asks for before it leaves anything out, or puts a zero where nothing is."""
    return re.sub(r" (or vector\(0\)|== 0|> 0)(?![.\d])", "", query)


def filled_in(query: str) -> str:
    """With the variables that Grafana fills in."""
    return re.sub("|".join(re.escape(name) for name in VARIABLES), lambda match: VARIABLES[match[0]], query)
