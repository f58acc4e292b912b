"""The rules, by promtool: valid, and those alerts whose days and whose kube-state-metrics a test cannot have fire and end on made-up series."""

import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.observability.prometheus import NAMESPACE, NOT_HERE, PROMTOOL, Group, alerts_of, rule_groups
from tests.shop import a_product

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason=NOT_HERE)

OURS = f'namespace="{NAMESPACE}",job="stockroom",instance="a"'
REQUESTS = f'{{{OURS},method="GET",route="/api/v1/products",'
COUNT = "stockroom_http_request_duration_seconds_count"
BUCKET = "stockroom_http_request_duration_seconds_bucket"
SERVICE = {"namespace": NAMESPACE, "service": f"{NAMESPACE}/stockroom"}
NONE_REFUSED = {f"stockroom_admission_{kind}_total{{{OURS}}}": "0+0x2880" for kind in ("refusals", "late_refusals")}


def promtool(*arguments: str, given: str = "") -> str:
    """What it says to what it accepts."""
    done = subprocess.run([str(PROMTOOL), *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def check(folder: Path, series: dict[str, str], *expected: tuple[str, str, dict[str, str] | None, str]) -> None:
    """An alert at a moment: it fires once, with these labels and this description; or not at all."""
    names = {name for name, *_ in expected}
    groups: list[Group] = [
        {"name": group["name"], "interval": "5m", "rules": [rule for rule in group["rules"] if rule.get("alert", "") in {"", *names}]}
        for group in rule_groups()
    ]
    rules = alerts_of(groups)
    written = folder / "rules.yaml"
    written.write_text(yaml.safe_dump({"groups": groups}))
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": moment,
                "alertname": name,
                "exp_alerts": []
                if labels is None
                else [
                    {
                        "exp_labels": {**rules[name]["labels"], **labels},
                        "exp_annotations": {**rules[name]["annotations"], "description": description},
                    }
                ],
            }
            for name, moment, labels, description in expected
        ],
    }
    trial = folder / "trial.yaml"
    trial.write_text(yaml.safe_dump({"rule_files": [str(written)], "evaluation_interval": "5m", "tests": [test]}))
    promtool("test", "rules", str(trial))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "objectives": {"availabilityPercent": 99.95, "latencyPercent": 95.5, "latencySeconds": "1.0"},
            "prometheusRule": {"selector": 'kubernetes_namespace="shop",job=~"a.+"', "runbooks": "https://wiki.example/"},
            "fullnameOverride": "shop-api",
        },
    ],
)
def test_promtool_takes_them(tmp_path: Path, values: dict[str, Any]) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": rule_groups(values)}))
    promtool("check", "rules", "--lint-fatal", str(file))


def test_a_slow_burn_of_the_error_budget_fires_and_ends(tmp_path: Path) -> None:
    # 0.5 % fail, five times what may, for a day; then none.
    check(
        tmp_path,
        {
            f'{COUNT}{REQUESTS}status="200"}}': "0+199x1440 286560+200x1440",
            f'{COUNT}{REQUESTS}status="500"}}': "0+1x1440 1440+0x1440",
            **NONE_REFUSED,
        },
        ("StockroomErrorBudgetBurnSlow", "10m", None, ""),
        ("StockroomErrorBudgetBurnSlow", "12h", SERVICE, "0.5% of the requests failed (5xx, refusals included)."),
        ("StockroomErrorBudgetBurnSlow", "2d", None, ""),
        ("StockroomErrorBudgetBurnFast", "12h", None, ""),
    )


def test_refusals_burn_the_error_budget_and_are_counted_once(tmp_path: Path) -> None:
    # 90 answered; 8 turned away early; 2 late, which are in both counters: 10 of 100.
    check(
        tmp_path,
        {
            f'{COUNT}{REQUESTS}status="200"}}': "0+90x120",
            f'{COUNT}{REQUESTS}status="503"}}': "0+2x120",
            f"stockroom_admission_refusals_total{{{OURS}}}": "0+10x120",
            f"stockroom_admission_late_refusals_total{{{OURS}}}": "0+2x120",
        },
        ("StockroomErrorBudgetBurnFast", "90m", SERVICE, "10% of the requests failed (5xx, refusals included)."),
    )


def test_a_slow_burn_of_the_latency_budget_fires_and_ends(tmp_path: Path) -> None:
    # 5 % are slow for a day, five times what may be, then none.
    check(
        tmp_path,
        {
            f'{COUNT}{REQUESTS}status="200"}}': "0+100x2880",
            f'{BUCKET}{REQUESTS}status="200",le="0.25"}}': "0+95x1440 136800+100x1440",
            **NONE_REFUSED,
        },
        ("StockroomLatencyBudgetBurnSlow", "12h", SERVICE, "5% of the requests took longer than 0.25 s."),
        ("StockroomLatencyBudgetBurnSlow", "2d", None, ""),
        ("StockroomLatencyBudgetBurnFast", "12h", None, ""),
    )


def test_a_crash_loop_of_our_pods_fires_and_ends(tmp_path: Path) -> None:
    ours, other = "stockroom-worker-5d8-abc", "another-5d8-abc"
    waits = 'kube_pod_container_status_waiting_reason{{namespace="{}",pod="{}",container="worker",reason="CrashLoopBackOff"}}'
    check(
        tmp_path,
        {waits.format(NAMESPACE, pod): "1x20 _x20" for pod in (ours, other)},
        ("StockroomCrashLooping", "0m", None, ""),
        (
            "StockroomCrashLooping",
            "15m",
            {"namespace": NAMESPACE, "pod": ours, "container": "worker"},
            f"{ours}: worker is restarted at ever longer intervals.",
        ),
        ("StockroomCrashLooping", "35m", None, ""),
    )


@pytest.mark.parametrize(
    ("metric", "labels"),
    [
        ('kube_job_failed{job_name="stockroom-migrate",condition="true",', {"job_name": "stockroom-migrate"}),
        (
            'kube_pod_init_container_status_waiting_reason{pod="stockroom-1-x",container="migrate",reason="CrashLoopBackOff",',
            {"pod": "stockroom-1-x"},
        ),
    ],
)
def test_a_migration_that_failed_fires_and_ends(tmp_path: Path, metric: str, labels: dict[str, str]) -> None:
    (name,) = labels.values()
    check(
        tmp_path,
        {f'{metric}namespace="{NAMESPACE}"}}': "1x10 _x20"},
        ("StockroomMigrationFailed", "5m", {"namespace": NAMESPACE, **labels}, f"{name} was given up or fails again and again."),
        ("StockroomMigrationFailed", "20m", None, ""),
    )


def test_throttling_fires_and_ends(tmp_path: Path) -> None:
    # A quarter of the time, then none.
    check(
        tmp_path,
        {f"stockroom_cgroup_cpu_throttled_seconds{{{OURS}}}": "0+15x30 450+0x30"},
        ("StockroomCpuThrottled", "5m", None, ""),
        (
            "StockroomCpuThrottled",
            "20m",
            {"namespace": NAMESPACE},
            "It is held back for 250ms in every second. Latency rises long before the CPU looks full on average.",
        ),
        ("StockroomCpuThrottled", "50m", None, ""),
    )


async def test_promtool_has_nothing_to_say_of_the_names(admin: httpx.AsyncClient) -> None:
    await a_product(admin)
    assert promtool("check", "metrics", given=(await admin.get("/metrics")).text) == ""
