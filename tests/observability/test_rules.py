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
ERRORS = f"stockroom_http_server_errors_total{{{OURS}}}"
SERVICE = {"namespace": NAMESPACE, "service": f"{NAMESPACE}/stockroom"}
NONE_REFUSED = {f"stockroom_admission_{kind}_total{{{OURS}}}": "0+0x2880" for kind in ("refusals", "late_refusals")}


def promtool(*arguments: str, given: str = "") -> str:
    """What it says to what it accepts."""
    done = subprocess.run([str(PROMTOOL), *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def groups_of(alerts: set[str], *, every: str) -> list[Group]:
    """These alerts and what is recorded, evaluated so often."""
    return [
        {"name": group["name"], "interval": every, "rules": [rule for rule in group["rules"] if rule.get("alert", "") in {"", *alerts}]}
        for group in rule_groups()
    ]


def check(folder: Path, series: dict[str, str], *expected: tuple[str, str, dict[str, str] | None, str], every: str = "5m") -> None:
    """An alert at a moment: it fires once, with these labels and this description; or not at all. Rules are evaluated so often."""
    groups = groups_of({name for name, *_ in expected}, every=every)
    rules = alerts_of(groups)
    expectations = {
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
    try_rules(folder, groups, series, expectations, every=every)


def check_firing(folder: Path, series: dict[str, str], alert: str, moments: dict[int, bool], *, every: str) -> None:
    """Whether an alert fires at these minutes, whatever it says."""
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
    expectations = {
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}
            for minute, fires in moments.items()
        ],
    }
    try_rules(folder, groups_of({alert}, every=every), series, expectations, every=every)


def try_rules(folder: Path, groups: list[dict[str, Any]], series: dict[str, str], expectations: dict[str, Any], *, every: str) -> None:
    """Let promtool evaluate the groups in their order, so that alerts see what was recorded at the same moment; by itself it takes any."""
    written, trial = folder / "rules.yaml", folder / "trial.yaml"
    written.write_text(yaml.safe_dump({"groups": groups}))
    order = [group["name"] for group in groups]
    test = {"interval": "1m", "input_series": [{"series": name, "values": values} for name, values in series.items()], **expectations}
    trial.write_text(
        yaml.safe_dump({"rule_files": [str(written)], "group_eval_order": order, "evaluation_interval": every, "tests": [test]})
    )
    promtool("test", "rules", str(trial))


def counter(stretches: list[tuple[int, int]]) -> str:
    """One that grows by so many a minute, for so many minutes each."""
    parts, value = [], 0
    for rate, minutes in stretches:
        parts.append(f"{value}+{rate}x{minutes - 1}")
        value += rate * minutes
    return " ".join(parts)


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
            ERRORS: "0+1x1440 1440+0x1440",
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
            ERRORS: "0+2x120",
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


# Requests a minute, how many of them are bad, and for how many minutes; and when it fires by these windows alone: not before the long one is full enough,
# and for as long as the short one remembers.
WINDOWS = {
    "BurnFast by 1h and 5m": ([(1000, 0, 360), (1000, 100, 20), (1000, 0, 60)], {370: False, 375: True, 380: True, 390: False}),
    "BurnFast by 6h and 30m": ([(1000, 0, 720), (1000, 10, 480), (1000, 0, 60)], {840: False, 1020: True, 1210: True, 1220: False}),
    "BurnSlow by 1d and 2h": ([(100_000, 0, 2880), (1000, 5, 1560), (1000, 0, 180)], {3060: False, 4380: True, 4470: True, 4590: False}),
    "BurnSlow by 3d and 6h": ([(1000, 0, 4320), (1000, 2, 4320), (1000, 0, 420)], {5520: False, 7200: True, 8700: True, 8880: False}),
}


@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("budget", ["Error", "Latency"])
def test_each_pair_of_windows_fires_alone_and_ends(tmp_path: Path, budget: str, windows: str) -> None:
    stretches, moments = WINDOWS[windows]
    every = counter([(every, minutes) for every, _, minutes in stretches])
    # As many times as much may be slow as may fail.
    times = 1 if budget == "Error" else 10
    bad = counter([(bad * times, minutes) for _, bad, minutes in stretches])
    good = counter([(every - bad * times, minutes) for every, bad, minutes in stretches])
    series = {
        f'{COUNT}{REQUESTS}status="200"}}': every,
        f'{BUCKET}{REQUESTS}status="200",le="0.25"}}': good if budget == "Latency" else every,
        ERRORS: bad if budget == "Error" else "0x10000",
        **dict.fromkeys(NONE_REFUSED, "0x10000"),
    }
    check_firing(tmp_path, series, f"Stockroom{budget}Budget{windows.partition(' ')[0]}", moments, every="5m")


def test_the_first_error_of_all_is_seen(tmp_path: Path) -> None:
    # A fault's series of the histogram is there only from the first one on; a rate does not see that one.
    series = {
        f'{COUNT}{REQUESTS}status="200"}}': "0+100x60",
        f'{COUNT}{REQUESTS}status="500"}}': "_x19 50x40",
        ERRORS: "0x18 50x40",
        **NONE_REFUSED,
    }
    check_firing(tmp_path, series, "StockroomErrorBudgetBurnFast", {18: False, 23: True}, every="1m")


CRASHES = (
    ("kube_pod_container_status_waiting_reason", "worker"),
    ("kube_pod_init_container_status_waiting_reason", "await-schema"),
)
# It waits for a minute, and then runs for four: a scrape in five finds it waiting.
SLOW_LOOP = " ".join(["1", "stale", "_", "_", "_"] * 6)


@pytest.mark.parametrize(("metric", "container"), CRASHES)
@pytest.mark.parametrize("loop", ["1x30", SLOW_LOOP])
def test_a_crash_loop_of_our_pods_fires_without_a_break_and_ends(tmp_path: Path, metric: str, container: str, loop: str) -> None:
    ours, other = "stockroom-worker-5d8-abc", "another-5d8-abc"
    waits = f'{metric}{{{{namespace="{NAMESPACE}",pod="{{}}",container="{container}",reason="CrashLoopBackOff"}}}}'
    labels = {"namespace": NAMESPACE, "pod": ours, "container": container}
    about = f"{ours}: {container} is restarted at ever longer intervals."
    check(
        tmp_path,
        {waits.format(pod): f"{loop} stale _x60" for pod in (ours, other)},
        ("StockroomCrashLooping", "0m", None, ""),
        ("StockroomCrashLooping", "20m", labels, about),
        ("StockroomCrashLooping", "25m", labels, about),
        ("StockroomCrashLooping", "50m", None, ""),
        every="1m",
    )


def test_a_single_crash_does_not_fire(tmp_path: Path) -> None:
    waits = (
        f'kube_pod_container_status_waiting_reason{{namespace="{NAMESPACE}",pod="stockroom-1-x",container="api",reason="CrashLoopBackOff"}}'
    )
    moments = [("StockroomCrashLooping", f"{minute}m", None, "") for minute in range(5, 40)]
    check(tmp_path, {waits: "_x5 1 stale _x40"}, *moments, every="1m")


@pytest.mark.parametrize(
    ("metric", "labels", "values"),
    [
        ('kube_job_failed{job_name="stockroom-migrate",condition="true",', {"job_name": "stockroom-migrate"}, "1x30"),
        (
            'kube_pod_init_container_status_waiting_reason{pod="stockroom-1-x",container="migrate",reason="CrashLoopBackOff",',
            {"pod": "stockroom-1-x"},
            SLOW_LOOP,
        ),
    ],
)
def test_a_migration_that_failed_fires_without_a_break_and_ends(tmp_path: Path, metric: str, labels: dict[str, str], values: str) -> None:
    (name,) = labels.values()
    about = f"{name} was given up or fails again and again."
    check(
        tmp_path,
        {f'{metric}namespace="{NAMESPACE}"}}': f"{values} stale _x40"},
        *(("StockroomMigrationFailed", f"{minute}m", {"namespace": NAMESPACE, **labels}, about) for minute in range(5, 10)),
        ("StockroomMigrationFailed", "50m", None, ""),
        every="1m",
    )


@pytest.mark.parametrize("deployment", ["stockroom", "stockroom-worker", "stockroom-pgbouncer"])
def test_pods_that_answer_no_scrape_are_missed_and_those_of_a_roll_out_are_not(tmp_path: Path, deployment: str) -> None:
    missing = f'kube_deployment_status_replicas_unavailable{{{{namespace="{NAMESPACE}",deployment="{{}}"}}}}'
    check(
        tmp_path,
        # Ten minutes of a roll-out; half an hour of one that stands still.
        {missing.format(name): "1x10 0x10 2x30 0x20" for name in (deployment, "another")},
        ("StockroomPodsUnavailable", "10m", None, ""),
        (
            "StockroomPodsUnavailable",
            "45m",
            {"namespace": NAMESPACE, "deployment": deployment},
            f"{deployment}: 2 are not available.",
        ),
        ("StockroomPodsUnavailable", "60m", None, ""),
        every="1m",
    )


def test_the_lag_of_one_pod_is_not_lost_among_many(tmp_path: Path) -> None:
    # One of 20 pods is blocked half of the time.
    late = {
        f'stockroom_event_loop_lag_seconds_bucket{{namespace="{NAMESPACE}",job="stockroom",instance="{pod}",le="{bound}"}}': f"0+{rate}x30"
        for pod in range(20)
        for bound, rate in (("0.25", 600 if pod else 300), ("0.5", 600), ("+Inf", 600))
    }
    check(
        tmp_path,
        late,
        ("StockroomEventLoopLag", "20m", {"namespace": NAMESPACE}, "Every hundredth timer of a pod fires 495ms late."),
        every="1m",
    )


def test_throttling_fires_and_ends(tmp_path: Path) -> None:
    # Three of ten periods, then none.
    check(
        tmp_path,
        {f"stockroom_cgroup_cpu_throttled_periods{{{OURS}}}": "0+180x30 5400+0x30"},
        ("StockroomCpuThrottled", "5m", None, ""),
        (
            "StockroomCpuThrottled",
            "20m",
            {"namespace": NAMESPACE},
            "It is held back in 30% of the periods of 100 ms. Latency rises long before the CPU looks full on average.",
        ),
        ("StockroomCpuThrottled", "50m", None, ""),
    )


async def test_promtool_has_nothing_to_say_of_the_names(admin: httpx.AsyncClient) -> None:
    await a_product(admin)
    assert promtool("check", "metrics", given=(await admin.get("/metrics")).text) == ""
