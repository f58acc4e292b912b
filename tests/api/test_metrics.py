"""Metrics: what a scrape sees of the requests, never growing with what clients make up. Several workers: tests/serving."""

import asyncio
import fcntl
import os
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from app import __version__
from app.api.health import Readiness
from app.api.metrics import Scrape
from app.core import draining, metric_files
from app.core.config import Settings
from app.core.db import Database, DirectConnection
from app.core.problems import Overloaded
from app.core.process import Process
from app.core.readings import READINGS
from app.importers import LocationRow, Row, RowError
from app.main import create_app
from app.schemas.reservations import ReservationCreate
from app.services import imports, products, reservations
from tests.shop import API, a_product, adjust, reserve, stock_of

REQUESTS = "stockroom_http_request_duration_seconds"
FAULTS = "stockroom_unhandled_errors"


async def families(client: httpx.AsyncClient) -> dict[str, Metric]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


async def counted(client: httpx.AsyncClient) -> dict[tuple[str, str, str], float]:
    """Requests by method, route and status."""
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for sample in (await families(client))[REQUESTS].samples
        if sample.name.endswith("_count")
    }


async def test_requests_are_counted_by_method_route_template_and_status(admin: httpx.AsyncClient) -> None:
    product = await a_product(admin)
    before = await counted(admin)
    for _ in range(3):
        await admin.get(f"{API}/products/{product['id']}")
    await admin.get(f"{API}/products/{uuid4()}")
    await admin.get(f"{API}/products/made-up")
    await admin.get("/made-up", headers={"Authorization": ""})
    await admin.request("MADE-UP", f"{API}/made-up")
    await admin.put(f"{API}/products")
    after = await counted(admin)
    route = f"{API}/products/{{product_id}}"
    assert {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key) and key[1] != "/metrics"} == {
        ("GET", route, "200"): 3,
        ("GET", route, "404"): 1,
        ("GET", route, "422"): 1,
        ("GET", "unmatched", "404"): 1,
        ("other", "unmatched", "404"): 1,
        ("PUT", f"{API}/products", "405"): 1,
    }
    assert "made-up" not in (await admin.get("/metrics")).text.lower()


async def test_durations_are_in_seconds_in_buckets_that_end_at_ten(client: httpx.AsyncClient) -> None:
    await client.get("/livez")
    wanted = {"method": "GET", "route": "/livez", "status": "200"}
    samples = [sample for sample in (await families(client))[REQUESTS].samples if sample.labels.items() >= wanted.items()]
    bounds = [sample.labels["le"] for sample in samples if sample.name.endswith("_bucket")]
    assert (bounds[0], bounds[-2:]) == ("0.005", ["10.0", "+Inf"])
    (total,) = [sample.value for sample in samples if sample.name.endswith("_sum")]
    (count,) = [sample.value for sample in samples if sample.name.endswith("_count")]
    assert 0 < total < count


async def test_a_fault_of_ours_is_counted_by_its_route_and_a_clients_is_not(
    viewer: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def faults() -> dict[str, float]:
        samples = (await families(viewer))[FAULTS].samples
        return {sample.labels["route"]: sample.value for sample in samples if sample.name.endswith("_total")}

    async def fail(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(products, "get_product", fail)
    route = f"{API}/products/{{product_id}}"

    async def server_errors() -> float:
        return (await values(viewer, "stockroom_http_server_errors"))[()]

    before, before_in_all = await faults(), await server_errors()
    await viewer.get(f"{API}/products/{uuid4()}")
    await viewer.get(f"{API}/products/x")
    await viewer.post(f"{API}/products", content=b"{", headers={"Content-Type": "application/json"})
    after = await faults()
    assert {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name)} == {route: 1}
    monkeypatch.setattr(draining, "_draining", True)
    assert (await viewer.get("/healthz")).status_code == 503
    assert await server_errors() == before_in_all + 1


async def test_pool_and_admission_are_seen_by_route_and_as_they_are(admin: httpx.AsyncClient, process: Process) -> None:
    def by_route(name: str, found: dict[str, Metric]) -> dict[str, float]:
        return {sample.labels["route"]: sample.value for sample in found[name].samples if sample.name.endswith("_count")}

    before = await families(admin)
    await admin.get(f"{API}/products")
    await admin.post(f"{API}/categories", json={"name": "Shirts"})
    await asyncio.sleep(0.15)
    after = await families(admin)
    for name in ("stockroom_db_pool_wait_seconds", "stockroom_db_pool_hold_seconds"):
        for route in (f"{API}/products", f"{API}/categories"):
            assert by_route(name, after)[route] == by_route(name, before).get(route, 0) + 1
    now = {name: family.samples[0].value for name, family in after.items() if family.type == "gauge"}
    assert now["stockroom_db_pool_size"] == process.plan.pool_size
    assert now["stockroom_admission_limit"] == process.plan.pool_size + process.plan.waiters_per_worker
    assert now["stockroom_admission_standing_limit"] == process.admission.standing
    assert now["stockroom_planned_peak_connections"] == process.plan.peak_connections
    assert now["stockroom_cpu_limit_cores"] == process.plan.inputs.cpu_limit_millicores / 1000
    assert (now["stockroom_db_pool_checked_out"], now["stockroom_db_pool_waiting"], now["stockroom_requests_in_flight"]) == (0, 0, 0)
    (lag,) = [sample.value for sample in after["stockroom_event_loop_lag_seconds"].samples if sample.name.endswith("_count")]
    assert lag > 0


async def test_each_worker_tells_what_it_has_admitted_and_used(admin: httpx.AsyncClient) -> None:
    async def now() -> tuple[float, float]:
        found = await families(admin)
        return found["stockroom_worker_requests"].samples[0].value, found["stockroom_worker_cpu_seconds"].samples[0].value

    # Sampled ten times a second, or less often on a busy machine.
    await asyncio.sleep(1)
    before = await now()
    for _ in range(3):
        await admin.get(f"{API}/products")
    async with asyncio.timeout(10):
        while (await now())[0] < before[0] + 3:
            await asyncio.sleep(0.05)
    after = await now()
    assert after[0] == before[0] + 3
    assert after[1] > before[1]


async def values(client: httpx.AsyncClient, name: str) -> dict[tuple[str, ...], float]:
    """Of one metric, by the labels' values."""
    family = (await families(client))[name]
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


async def test_reservations_are_counted_by_what_became_of_them_and_each_once(admin: httpx.AsyncClient, database: Database) -> None:
    await stock_of(admin, "LS-BLU-M", 10)
    before = await values(admin, "stockroom_reservations"), await values(admin, "stockroom_oversell_refusals")
    held = [(await reserve(admin, {"sku": "LS-BLU-M", "quantity": 1}, key=key, expires_in_seconds=60)).json() for key in "aabcd"]
    assert held[0] == held[1]
    await admin.post(f"{API}/reservations/{held[1]['id']}/commit")
    await admin.post(f"{API}/reservations/{held[1]['id']}/commit")
    await admin.post(f"{API}/reservations/{held[2]['id']}/release")
    async with database.write() as session:
        await session.fetch_all("UPDATE reservation SET expires_at = now() WHERE status = 'active'")
        assert await reservations.expire_due(session) == 2
    await reserve(admin, {"sku": "LS-BLU-M", "quantity": 100})
    await adjust(admin, "LS-BLU-M", "BER-1", -100)
    # What is rolled back has not been.
    async with database.write() as session:
        wanted = ReservationCreate.model_validate({"lines": [{"sku": "LS-BLU-M", "quantity": 1}]})
        await reservations.reserve(session, wanted, by=uuid4())
        await session.rollback()
    after = await values(admin, "stockroom_reservations"), await values(admin, "stockroom_oversell_refusals")
    counted = {key: after[0][key] - before[0][key] for key in after[0]}
    assert counted == {("held",): 4, ("committed",): 1, ("released",): 1, ("expired",): 2}
    refused = {key: after[1][key] - before[1][key] for key in after[1]}
    assert refused == {("reserve",): 1, ("commit",): 0, ("adjust",): 1}


async def test_a_refusal_that_is_in_the_histogram_too_is_told_apart(viewer: httpx.AsyncClient, process: Process) -> None:
    async def late() -> float:
        return (await values(viewer, "stockroom_admission_late_refusals"))[()]

    before = await late()
    with ExitStack() as places:
        for _ in range(process.admission.standing):
            places.enter_context(process.admission)
        process.admission._crowded_since -= 10
        with pytest.raises(Overloaded):
            places.enter_context(process.admission)
    assert await late() == before + 1


class TestWhatPostgresqlTells:
    async def test_jobs_that_wait_and_what_is_late(self, admin: httpx.AsyncClient, database: Database) -> None:
        await stock_of(admin, "LS-BLU-M", 10)
        await reserve(admin, {"sku": "LS-BLU-M", "quantity": 1})
        async with database.write() as session:
            await session.fetch_all("DELETE FROM procrastinate_workers")
        assert await self.now(admin) == {
            "stockroom_jobs_due": 0, "stockroom_job_lag_seconds": 0, "stockroom_jobs_running": 0, "stockroom_jobs_stalled": 0, "stockroom_job_workers": 0,
            "stockroom_reservation_expiry_lag_seconds": 0,
        }  # fmt: skip
        async with database.write() as session:
            for statement in (
                "UPDATE reservation SET expires_at = now() - interval '50 seconds'",
                "INSERT INTO procrastinate_workers DEFAULT VALUES",
                "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at) VALUES ('q', 'due', now() - interval '100 s'), ('q', 'at once', NULL)",
                "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at) VALUES ('q', 'later', now() + interval '100 seconds')",
                "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id) SELECT 'q', 'running', 'doing', max(id) FROM procrastinate_workers",
                "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q', 'left behind', 'doing')",
            ):
                await session.fetch_all(statement)
        found = await self.now(admin)
        assert 50 <= found.pop("stockroom_reservation_expiry_lag_seconds") < 80
        assert 100 <= found.pop("stockroom_job_lag_seconds") < 130
        assert found == {"stockroom_jobs_due": 2, "stockroom_jobs_running": 2, "stockroom_jobs_stalled": 1, "stockroom_job_workers": 1}

    async def test_a_job_without_a_time_has_waited_since_it_was_put_there(self, admin: httpx.AsyncClient, database: Database) -> None:
        async with database.write() as session:
            await session.fetch_all("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 'at once')")
            await session.fetch_all("UPDATE procrastinate_events SET at = now() - interval '200 seconds'")
        assert 200 <= (await self.now(admin))["stockroom_job_lag_seconds"] < 230

    async def test_rows_of_imports_since_ever(self, admin: httpx.AsyncClient, database: Database) -> None:
        async def rows() -> dict[tuple[str, ...], float]:
            return await values(admin, "stockroom_import_rows")

        assert await rows() == {("stored",): 0, ("failed",): 0}
        wanted: list[Row] = [LocationRow(1, "BER-1", "Berlin", {}), LocationRow(2, "B E R", "Berlin", {}), RowError(3, "unreadable")]
        for _ in range(2):
            await imports.load_rows(database, wanted)
        await imports.load_rows(database, wanted, dry_run=True)
        assert await rows() == {("stored",): 2, ("failed",): 4}

    async def test_connections_by_who_has_them(self, admin: httpx.AsyncClient, settings: Settings) -> None:
        name = f"stranger-{uuid4().hex}"
        async with await psycopg.AsyncConnection.connect(settings.require_database_url(), application_name=name) as connection:
            await connection.execute("SELECT")
            found = await values(admin, "stockroom_postgres_connections")
            assert found["other", "idle in transaction"] >= 1
            assert found["stockroom-direct", "active"] >= 1
            assert {application for application, _ in found} <= {
                "stockroom", "stockroom-direct", "stockroom-worker", "stockroom-migrate", "other",
            }  # fmt: skip
            # Of the whole server, so other tests' too.
            assert sum(found.values()) >= 3

    async def test_nothing_but_that_it_is_away_when_it_is(self, settings: Settings) -> None:
        app = create_app(settings.with_database("postgresql://stockroom:x@127.0.0.1:1/none"))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stockroom.test") as client,
        ):
            found = await families(client)
        assert found["stockroom_postgres_up"].samples[0].value == 0
        assert {name for name in found if name.startswith("stockroom_postgres")} == {"stockroom_postgres_up"}
        ready = {sample.labels["check"]: sample.value for sample in found["stockroom_ready"].samples}
        assert ready == {"database": 0, "schema": 0, "capacity": 0, "draining": 1}

    async def now(self, client: httpx.AsyncClient) -> dict[str, float]:
        found, told = await families(client), {reading.name for reading in READINGS}
        return {name: found[name].samples[0].value for name in told if name.startswith(("stockroom_job", "stockroom_reservation"))}


async def test_readiness_the_version_and_the_end_of_the_signing_key_are_told(
    client: httpx.AsyncClient, app: FastAPI, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await families(client)
    assert {sample.labels["check"] for sample in found["stockroom_ready"].samples if sample.value == 1} == {
        "database", "schema", "capacity", "draining",
    }  # fmt: skip
    (build,) = found["stockroom_build_info"].samples
    assert (build.labels["version"], build.labels["component"], build.value) == (__version__, "api", 1)
    assert "stockroom_signing_key_expiry_timestamp_seconds" not in found
    expiring = process.settings.model_copy(update={"signing_key_expires_on": date(2027, 6, 30)})
    monkeypatch.setitem(app.state._state, "scrape", Scrape(replace(process, settings=expiring), app.state.readiness))
    assert await values(client, "stockroom_signing_key_expiry_timestamp_seconds") == {(): datetime(2027, 6, 30, tzinfo=UTC).timestamp()}


async def test_scrapes_at_once_ask_postgresql_once(
    client: httpx.AsyncClient, app: FastAPI, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(DirectConnection):
        asked = 0

        async def fetch_all(self, *arguments: Any) -> Any:
            self.asked += 1
            return await super().fetch_all(*arguments)

    direct = Counting(process.database.url, timeout_seconds=2.0)
    counting = replace(process, direct=direct)
    monkeypatch.setitem(app.state._state, "scrape", Scrape(counting, Readiness(counting)))
    answers = await asyncio.gather(*(client.get("/metrics") for _ in range(20)))
    assert all("stockroom_postgres_up 1.0" in answer.text for answer in answers)
    # Readiness, and what is read.
    assert direct.asked == 2
    await client.get("/metrics")
    assert direct.asked >= 3
    await direct.close()


async def test_a_scrape_that_waits_for_the_files_of_metrics_holds_nobody_else_up(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(metric_files.VARIABLE, str(tmp_path))
    (tmp_path / "lock").touch()
    lock = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        scrape = asyncio.create_task(client.get("/metrics"))
        others = 0
        while not scrape.done():
            await asyncio.sleep(0.02)
            others += 1
        assert (await scrape).status_code == 200
        # It waits for a second.
        assert others > 10
    finally:
        os.close(lock)


async def test_everything_measured_is_named_as_ours_and_explained(client: httpx.AsyncClient) -> None:
    for name, family in (await families(client)).items():
        assert name.startswith(("stockroom_", "python_", "process_"))
        assert family.documentation
