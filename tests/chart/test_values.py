"""What is written about the values is true: each is described, in the schema, and says the same as the code."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from app import __version__
from app.capacity import inputs
from app.capacity.limits import cpu_limit_millicores, memory_limit_bytes
from app.core import sizing
from app.core.config import Settings

ROOT = Path(__file__).parents[2]
MODEL = {field.name: field.default for field in fields(inputs.Inputs)}

IN_THE_SECRET = {"APP_DATABASE_URL", "APP_DATABASE_DIRECT_URL", "APP_SIGNING_KEYS", "APP_ADMIN_PASSWORD"}
NOT_FOR_A_CLUSTER = {"APP_DATA_FOLDER", "APP_DEBUG", "APP_ADMIN_EMAIL"}
OF_THE_CHART = {
    "APP_ENVIRONMENT", "APP_HOST", "APP_PORT", "APP_DRAIN_SECONDS", "APP_SHUTDOWN_SECONDS", "APP_CPU_LIMIT", "APP_REPLICA_CEILING", "APP_SURGE_PODS",
    "APP_TERMINATING_PODS", "APP_JOB_WORKER_PODS", "APP_OTHER_CONNECTIONS", "APP_WORKERS_CEILING", "APP_PGBOUNCER_MAX_CLIENT_CONNECTIONS",
    "APP_PGBOUNCER_SERVER_CONNECTIONS", "APP_DATABASE_CORES", "APP_ARRIVAL_RATE_PER_WORKER_PER_SECOND", "APP_HOLD_TIME_MS", "APP_WAIT_BUDGET_MS",
    "APP_WORKER_METRICS_PORT",
}  # fmt: skip


@pytest.fixture(scope="module")
def schema(chart_folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((chart_folder / "values.schema.json").read_text())
    return found


def resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in part:
        found: dict[str, Any] = schema["$defs"][part["$ref"].removeprefix("#/$defs/")]
        return found
    return part


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Any:
    for name, value in values.items():
        if isinstance(value, dict) and value and name not in {"resources", "strategy", "probes", "podSecurityContext"}:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def test_every_value_is_described(chart_folder: Path, default_values: dict[str, Any]) -> None:
    described: set[tuple[str, ...]] = set()
    path: list[str] = []
    pending = False
    for line in (chart_folder / "values.yaml").read_text().splitlines():
        if line.strip().startswith("# --"):
            pending = True
        elif match := re.match(r"( *)([A-Za-z]+):", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if pending:
                described.add(tuple(path))
            pending = False
    assert sorted(set(leaves(default_values)) - described) == []


def test_values_and_schema_name_the_same(schema: dict[str, Any], default_values: dict[str, Any]) -> None:
    def compare(part: dict[str, Any], values: dict[str, Any], where: str) -> None:
        part = resolved(schema, part)
        if part.get("additionalProperties", True) is not False or not values:
            return
        known = set(part["properties"]) - {"global", "enabled"} if where == "" else set(part["properties"])
        # Kubernetes' own shapes have more fields than the defaults use.
        if where.rpartition("/")[2] in {"requests", "limits", "startup", "liveness", "readiness", "settings", "resources"}:
            assert set(values) <= known, where
        else:
            assert set(values) - {"global"} == known, where
        for name, value in values.items():
            if isinstance(value, dict):
                compare(part["properties"][name], value, f"{where}/{name}")

    compare(schema, default_values, "")


def test_the_schema_lets_no_typing_error_through(schema: dict[str, Any]) -> None:
    def objects(part: Any, where: str) -> Any:
        if isinstance(part, dict):
            if part.get("type") == "object" and "properties" in part:
                yield where, part
            for name, inner in part.items():
                yield from objects(inner, f"{where}/{name}")

    open_ones = {where for where, part in objects(schema, "") if part.get("additionalProperties", True) is not False}
    assert open_ones == {"/$defs/podSecurityContext"}


def test_the_settings_are_those_of_the_code(schema: dict[str, Any]) -> None:
    known = {f"APP_{name.upper()}" for name in Settings.model_fields}
    assert set(schema["properties"]["settings"]["properties"]) == known - IN_THE_SECRET - NOT_FOR_A_CLUSTER - OF_THE_CHART


def test_the_defaults_of_the_plan_are_those_of_the_code(default_values: dict[str, Any]) -> None:
    capacity, settings = default_values["capacity"], Settings.model_fields
    assert capacity["otherClientConnections"] == settings["other_connections"].default
    assert capacity["holdTimeMs"] == settings["hold_time_ms"].default == MODEL["hold_time_ms"]
    assert capacity["waitBudgetMs"] == settings["wait_budget_ms"].default == MODEL["wait_budget_ms"]
    server = sizing.ServerLimits()
    assert capacity["superuserReservedConnections"] == server.superuser_reserved_connections
    assert capacity["reservedConnections"] == server.reserved_connections
    assert default_values["drainSeconds"] == settings["drain_seconds"].default
    assert default_values["shutdownSeconds"] == settings["shutdown_seconds"].default


def test_the_constants_of_the_plan_are_those_of_the_code(chart_folder: Path) -> None:
    template = (chart_folder / "templates" / "_capacity.tpl").read_text()
    constants = yaml.safe_load(template.partition('"stockroom.capacity.constants" -}}')[2].partition("{{- end")[0])
    assert constants == {
        "mib": inputs.MIB,
        "baseMemoryMib": inputs.BASE_MEMORY_MIB,
        "memoryPerWorkerMib": inputs.MEMORY_PER_WORKER_MIB,
        "smallestPool": inputs.SMALLEST_POOL,
        "largestPool": inputs.LARGEST_POOL,
        "defaultDemand": inputs.DEFAULT_DEMAND,
        "busyPercent": inputs.BUSY_PERCENT,
        "waitersCeiling": inputs.WAITERS_CEILING,
        "connectionsPerDatabaseCore": inputs.CONNECTIONS_PER_DATABASE_CORE,
        "maxConnectionsCeiling": inputs.MAX_CONNECTIONS_CEILING,
    }
    template = (chart_folder / "templates" / "_plan.tpl").read_text()
    for name, value in {
        "enginesPerWorker": MODEL["engines_per_worker"],
        "directConnectionsPerWorker": sizing.DIRECT_CONNECTIONS_PER_WORKER,
        "connectionsPerJobWorker": sizing.CONNECTIONS_PER_JOB_WORKER,
        "migrationConnections": MODEL["migration_connections"],
    }.items():
        assert f'set $in "{name}" {value} -' in template


@pytest.mark.parametrize("quantity", ["1", "2", "0.5", ".29", "1.", "250m", "1500m", "1999m", 2, 0.3, 1.5])
def test_cores_are_read_as_the_code_reads_them(chart: helm.Chart, quantity: str | float) -> None:
    values = {
        "resources": {"limits": {"cpu": quantity}},
        "extraObjects": [_SHOWS.format('include "stockroom.millicores" .Values.resources.limits.cpu')],
    }
    assert _shown(chart, values) == cpu_limit_millicores(str(quantity)).value


@pytest.mark.parametrize("quantity", ["256Mi", "268435456", "1G", "1.1Gi", "1.5G", "200M", "300000Ki", "400000k", "2Ti", 314572800])
def test_bytes_are_read_as_the_code_reads_them(chart: helm.Chart, quantity: str | int) -> None:
    values = {
        "resources": {"limits": {"memory": quantity}},
        "extraObjects": [_SHOWS.format('include "stockroom.bytes" .Values.resources.limits.memory')],
    }
    assert _shown(chart, values) == memory_limit_bytes(str(quantity)).value


_SHOWS = '{{{{- dict "shown" ({} | int64) | toJson -}}}}'


def _shown(chart: helm.Chart, values: dict[str, Any]) -> int:
    text = chart.render(values, name="stockroom", namespace="shop")["stockroom/templates/extra.yaml"]
    shown: int = yaml.safe_load(text)["shown"]
    return shown


def test_the_chart_is_of_this_version(chart: helm.Chart) -> None:
    assert chart.metadata["appVersion"] == __version__


@pytest.mark.parametrize("page", ["README.md", "docs/kubernetes.md", "Dockerfile"])
def test_the_image_that_is_told_to_be_built_is_the_one_that_the_chart_asks_for(page: str, chart: helm.Chart) -> None:
    image = re.escape(f"stockroom:{chart.metadata['appVersion']}")
    assert re.search(rf"docker build --tag {image} \.", (ROOT / page).read_text())


@pytest.mark.parametrize("page", ["docs/kubernetes.md", "docs/operations/install.md", "helm/stockroom/values-production.example.yaml"])
def test_urls_that_verify_a_server_say_by_which_certificate(page: str) -> None:
    urls = re.findall(r"postgresql://\S*sslmode=verify-full\S*", (ROOT / page).read_text())
    assert urls
    assert all("&sslrootcert=/" in url for url in urls)
