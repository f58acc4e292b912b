"""Metrics: what a scrape sees of the requests, never growing with what clients make up. Several workers: tests/serving."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.core.process import Process
from app.services import products
from tests.shop import API, a_product

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
    before = await faults()
    await viewer.get(f"{API}/products/{uuid4()}")
    await viewer.get(f"{API}/products/x")
    await viewer.post(f"{API}/products", content=b"{", headers={"Content-Type": "application/json"})
    after = await faults()
    assert {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name)} == {route: 1}


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


async def test_everything_measured_is_named_as_ours_and_explained(client: httpx.AsyncClient) -> None:
    for name, family in (await families(client)).items():
        assert name.startswith(("stockroom_", "python_", "process_"))
        assert family.documentation
