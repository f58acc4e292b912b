"""The capacity plan that the chart makes while it renders is the one that the processes make."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import helm_python as helm
import pytest

from app.capacity.explaining import explain
from app.capacity.model import Inputs, Plan, plan

CASES = 2_000
# Looped inside one render: starting Helm two thousand times would take minutes.
TEMPLATE = """
{{- $k := dict -}}
{{- include "stockroom.capacity.prepare" $k -}}
{{- range $case := .Values.global.cases -}}
{{- $in := dict "k" $k.k -}}
{{- range $name, $value := $case -}}
{{- if or (kindIs "invalid" $value) (has $name (list "surgePods" "jobSurgePods" "holdTimeMs" "waitBudgetMs" "arrivalRatePerWorkerPerSecond")) -}}
{{- $_ := set $in $name $value -}}
{{- else -}}
{{- $_ := set $in $name (int64 $value) -}}
{{- end -}}
{{- end -}}
{{- include "stockroom.capacity.plan" $in -}}
{{- $text := include "stockroom.capacity.explain" $in }}
{{ dict "a" $in.a "plan" $in.plan "refusal" $in.refusal "text" $text | toJson }}
{{- end -}}
"""


def camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def some_inputs(random: Random) -> Inputs:
    """Deployments of all kinds, many of them near the edge of what fits."""
    maximum = random.choice([10, 100, 200, 500, 5000])
    bouncer = random.random() < 0.3
    return Inputs(
        cpu_limit_millicores=random.choice([1, 250, 999, 1000, 1999, 2000, 8000, random.randint(1, 64_000)]),
        memory_limit_bytes=random.choice([None, 1, random.randint(1, 2**34), 190 * 2**20, 320 * 2**20 - 1]),
        workers_per_pod_ceiling=random.choice([None, None, 1, random.randint(1, 8)]),
        replica_ceiling=random.choice([1, 2, random.randint(1, 40)]),
        surge_pods=random.choice([0, 1, 0.25, 2.5, random.randint(0, 10)]),
        terminating_pods=random.randint(0, 20),
        job_replica_ceiling=random.randint(0, 4),
        job_surge_pods=random.choice([0, 0, 1, 0.5]),
        job_terminating_pods=random.randint(0, 3),
        connections_per_job_worker=random.choice([6, 6, 1, 12]),
        max_connections=maximum,
        superuser_reserved_connections=random.choice([3, 0, 9]),
        reserved_connections=random.choice([0, 0, maximum // 2 - 5]),
        role_connection_limit=random.choice([None, None, random.randint(0, maximum)]),
        pgbouncer_max_client_connections=random.choice([100, 1000, random.randint(1, 3000)]) if bouncer else None,
        pgbouncer_server_connections=random.choice([5, 40, random.randint(1, maximum)]) if bouncer else 0,
        migration_connections=random.choice([1, 0, 3]),
        other_client_connections=random.choice([5, 0, random.randint(0, maximum)]),
        engines_per_worker=random.choice([1, 1, 2]),
        direct_connections_per_worker=random.choice([1, 1, 0, 3]),
        arrival_rate_per_worker_per_second=random.choice([None, 0, 490, 0.14, round(random.uniform(0, 900), random.randint(0, 3))]),
        hold_time_ms=random.choice([10, 10_000, 0.7, 0.1, round(random.uniform(0.01, 50), 3) or 1]),
        wait_budget_ms=random.choice([200, 0, 0.7, 2.1, round(random.uniform(0, 500), 2)]),
        database_cores=random.choice([None, 1, 8]),
    )


@pytest.fixture(scope="module")
def rendered_cases(tmp_path_factory: pytest.TempPathFactory, chart_folder: Path) -> list[tuple[Inputs, dict[str, Any]]]:
    """Inputs and what the chart's templates make of them."""
    folder = tmp_path_factory.mktemp("chart") / "stockroom"
    shutil.copytree(chart_folder, folder)
    (folder / "templates" / "zz-cases.yaml").write_text(TEMPLATE)
    random = Random(20)
    inputs = [some_inputs(random) for _ in range(CASES)]
    cases = [{camel_case(name): value for name, value in asdict(case).items()} for case in inputs]
    rendered = helm.Chart.load(folder).render({"global": {"cases": cases}}, name="stockroom", namespace="shop")
    return list(zip(inputs, map(json.loads, rendered["stockroom/templates/zz-cases.yaml"].split("\n")[1:]), strict=True))


def test_two_thousand_random_deployments_are_decided_as_python_decides_them(rendered_cases: list[tuple[Inputs, dict[str, Any]]]) -> None:
    refused = 0
    for inputs, found in rendered_cases:
        decision = plan(inputs)
        a = decision.arithmetic
        assert (found["a"]["workersPerPod"], found["a"]["peakPods"], found["a"]["peakWorkers"]) == (
            a.workers_per_pod,
            a.peak_pods,
            a.peak_workers,
        )
        assert (found["a"]["usable"], found["a"]["ours"], found["a"]["budget"]) == (
            a.usable_connections,
            a.our_connections,
            a.budget_connections,
        )
        assert (found["a"]["cap"], found["a"]["demand"]) == (a.cap_connections_per_pool, a.demand_connections_per_pool), inputs
        if isinstance(decision, Plan):
            assert found["plan"] == {
                "workersPerPod": decision.workers_per_pod,
                "poolSize": decision.pool_size,
                "poolConnections": decision.pool_connections,
                "roleConnections": decision.role_connections,
                "peakConnections": decision.peak_connections,
                "waitersPerWorker": decision.waiters_per_worker,
                "warnings": list(decision.warnings),
            }, inputs
        else:
            refused += 1
            assert found["plan"] is None
            assert found["refusal"] == {
                "binding": camel_case(decision.binding_input),
                "suggestions": [
                    {"changes": [[camel_case(name), value] for name, value in s.changes], "reason": s.reason} for s in decision.suggestions
                ],
                "pgbouncer": decision.pgbouncer or "",
            }, inputs
    assert CASES * 0.3 < refused < CASES * 0.8, "the cases should be of both kinds"


def test_it_is_explained_in_the_same_words(rendered_cases: list[tuple[Inputs, dict[str, Any]]]) -> None:
    for inputs, found in rendered_cases[:500]:
        expected = explain(plan(inputs))
        names = {name: camel_case(name) for name in sorted(asdict(inputs), key=len, reverse=True)}
        for name, chart_name in names.items():
            expected = (
                expected.replace(f"{name}=", f"{chart_name}=")
                .replace(f"binds: {name}", f"binds: {chart_name}")
                .replace(f"({name})", f"({chart_name})")
            )
        # The chart decides nothing of how a worker uses its places.
        lines = [line.split() for line in expected.splitlines() if not line.startswith(("for over a second", "hashes per worker"))]
        assert [line.split() for line in found["text"].splitlines()] == lines
