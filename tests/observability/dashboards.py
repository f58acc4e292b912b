"""The chart's dashboards: what they ask. `make docs` makes Grafana's JSON of them (tests/observability/grafana.py); a test holds it current."""

from pathlib import Path

from tests.observability.grafana import Dashboard, Panel, as_json

FOLDER = Path(__file__).parents[2] / "helm" / "stockroom" / "files" / "dashboards"

NEEDS_KUBE_STATE_METRICS = "Needs kube-state-metrics."
NEEDS_YESTERDAY = "Needs a day of data."

# What this release tells of the chosen processes; of requests, those that somebody made, which probes and scrapes are not.
_SELECTOR = 'namespace="$namespace",job=~"$job",instance=~"$instance"'
_REQUESTS = _SELECTOR + ',route!~"/livez|/healthz|/metrics"'


def _quantile(share: float, by: str, metric: str, selector: str = _SELECTOR, *, ago: str = "") -> str:
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({metric}_bucket{{{selector}}}[$__rate_interval]{ago})))"


def _rate(metric: str, by: str = "", selector: str = _SELECTOR, window: str = "$__rate_interval") -> str:
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({metric}{{{selector}}}[{window}]))"


def _largest(metric: str, by: str = "") -> str:
    """What every process says the same of, because PostgreSQL has told it."""
    return f"max{f' by ({by})' if by else ''} ({metric}{{{_SELECTOR}}})"


def _most_connections(by: str) -> str:
    return f"max by ({by}) (sum by ({by}, job, instance) (stockroom_postgres_connections{{{_SELECTOR}}}))"


def _largest_rate(metric: str, by: str) -> str:
    return f"max by ({by}) (rate({metric}{{{_SELECTOR}}}[$__rate_interval]))"


_COUNT = "stockroom_http_request_duration_seconds_count"
_HOLD = "stockroom_db_pool_hold_seconds"
_CONNECTIONS = f"max(sum by (job, instance) (stockroom_postgres_connections{{{_SELECTOR}}}))"
_CACHED, _FROM_DISK = (
    f'max(rate(stockroom_postgres_blocks_total{{{_SELECTOR},source="{source}"}}[$__rate_interval]))' for source in ("cache", "disk")
)


def _early_refusals(window: str) -> str:
    early, late = (_rate(f"stockroom_admission_{kind}_total", window=window) for kind in ("refusals", "late_refusals"))
    return f"{early} - {late}"


def _total(window: str) -> str:
    return f"({_rate(_COUNT, selector=_REQUESTS, window=window)} + {_early_refusals(window)})"


def _failed(window: str) -> str:
    return f"({_rate('stockroom_http_server_errors_total', window=window)} + {_early_refusals(window)})"


def _slow(window: str) -> str:
    quick = _rate("stockroom_http_request_duration_seconds_bucket", selector=f'{_REQUESTS},le="$slow"', window=window)
    return f"({_rate(_COUNT, selector=_REQUESTS, window=window)} - {quick})"


def _burn(bad: str, window: str, objective: str) -> str:
    of = {"failed": _failed, "slow": _slow}[bad]
    return f"{of(window)} / {_total(window)} / (1 - ${objective} / 100)"


SERVICE = Dashboard(
    "service",
    "Stockroom / Service",
    "Are requests served, quickly, and what do they do? Rate, errors and duration by route, and how much of the objectives' budgets is left.",
    {
        "Objectives": [
            Panel("Requests", "reqps", [(_total("$__rate_interval"), "")], "stat", width=4),
            Panel(
                "Available", "percentunit", [(f"1 - {_failed('$__range')} / {_total('$__range')}", "")], "stat",
                "Requests that did not fail through our fault, refusals counted as failed; over the time shown.", 5,
            ),
            Panel(
                "Error budget left", "percentunit", [(f"1 - {_burn('failed', '$__range', 'availability')}", "")], "stat",
                "If the time shown were the objective's. Below zero: more has failed than may.", 5,
            ),
            Panel(
                "Quick enough", "percentunit", [(f"1 - {_slow('$__range')} / {_total('$__range')}", "")], "stat",
                "Requests that took at most $slow s; over the time shown.", 5,
            ),
            Panel(
                "Latency budget left", "percentunit", [(f"1 - {_burn('slow', '$__range', 'latency')}", "")], "stat",
                "If the time shown were the objective's.", 5,
            ),
            Panel(
                "Error budget's burn rate", "none",
                [(_burn("failed", window, "availability"), window) for window in ("5m", "1h", "6h")],
                about="1 is what can go on for ever. The alert is at 14.4 for an hour, 6 for six hours.", width=12,
            ),
            Panel(
                "Latency budget's burn rate", "none",
                [(_burn("slow", window, "latency"), window) for window in ("5m", "1h", "6h")],
                about="1 is what can go on for ever.", width=12,
            ),
        ],
        "Rate, errors, duration": [
            Panel("Requests by route", "reqps", [(_rate(_COUNT, "method, route", _REQUESTS), "{{method}} {{route}}")], width=12),
            Panel("Requests by status", "reqps", [(_rate(_COUNT, "status", _REQUESTS), "{{status}}")], width=12, stacked=True),
            Panel(
                "Errors by route", "reqps",
                [(_rate(_COUNT, "method, route, status", f'{_REQUESTS},status=~"5.."') + " or vector(0)", "{{method}} {{route}} {{status}}")],
                about="5xx. What admission turns away has no route yet, and is under Refused.",
            ),
            Panel(
                "Refused", "reqps",
                [
                    (_rate("stockroom_admission_refusals_total"), "refused: too many (503)"),
                    (_rate("stockroom_db_pool_timeouts_total"), "no connection in time (503)"),
                    (_rate("stockroom_http_refusals_total", "reason") + " or vector(0)", "{{reason}}"),
                ],
                about="And what broke the rules or limits of HTTP, by reason.",
            ),
            Panel("Faults of ours (500)", "reqps", [(_rate("stockroom_unhandled_errors_total", "route") + " or vector(0)", "{{route}}")]),
            *(
                Panel(
                    f"{title} by route", "s",
                    [(_quantile(share, "method, route", "stockroom_http_request_duration_seconds", _REQUESTS), "{{method}} {{route}}")],
                )
                for share, title in ((0.5, "Median"), (0.95, "p95"), (0.99, "p99"))
            ),
        ],
        "Business": [
            Panel("Reservations", "ops", [(_rate("stockroom_reservations_total", "outcome"), "{{outcome}}")], about="What became of them."),
            Panel(
                "Oversell refused", "ops", [(_rate("stockroom_oversell_refusals_total", "operation"), "{{operation}}")],
                about="More was wanted than there is.",
            ),
            Panel(
                "Imported rows", "ops",
                [(_largest_rate("stockroom_import_rows_total", "outcome"), "{{outcome}}")],
            ),
        ],
    },
)  # fmt: skip

CAPACITY = Dashboard(
    "capacity",
    "Stockroom / Capacity",
    "Is there room? Pools, workers, admission and connections against the plan, and whether the CPU limit holds the pods back.",
    {
        "Connection pools": [
            Panel(
                "Pools in use", "percentunit",
                [(
                    f"sum by (instance) (stockroom_db_pool_checked_out{{{_SELECTOR}}}) / sum by (instance) (stockroom_db_pool_size{{{_SELECTOR}}} > 0)",
                    "{{instance}}",
                )],
                most=1,
            ),
            Panel("Requests that wait for a connection", "short", [(f"sum by (instance) (stockroom_db_pool_waiting{{{_SELECTOR}}})", "{{instance}}")]),
            Panel("Given up after waiting", "reqps", [(_rate("stockroom_db_pool_timeouts_total", "instance"), "{{instance}}")]),
            Panel("Wait for a connection, p95 by route", "s", [(_quantile(0.95, "route", "stockroom_db_pool_wait_seconds"), "{{route}}")], width=12),
            Panel("Hold of a connection, p95 by route", "s", [(_quantile(0.95, "route", "stockroom_db_pool_hold_seconds"), "{{route}}")], width=12),
        ],
        "Connections against the plan": [
            Panel(
                "Connections", "short",
                [
                    (_CONNECTIONS, "connected to the server"),
                    (_largest("stockroom_planned_peak_connections"), "planned at the peak of a roll-out"),
                    (_largest("stockroom_postgres_usable_connections"), "usable at the server"),
                ],
                width=12,
            ),
            Panel(
                "Share of the plan in use", "percentunit",
                [(f"{_CONNECTIONS} / {_largest('stockroom_planned_peak_connections')}", "connected / planned peak")],
                about="Alerts at 80 and 95 %.", width=12,
            ),
        ],
        "Admission": [
            Panel(
                "In flight", "short",
                [
                    (f"sum (stockroom_requests_in_flight{{{_SELECTOR}}})", "in flight"),
                    (f"sum (stockroom_admission_standing_limit{{{_SELECTOR}}})", "limit for more than a second"),
                    (f"sum (stockroom_admission_limit{{{_SELECTOR}}})", "limit"),
                ],
                width=12,
            ),
            Panel("Refused because there were too many", "reqps", [(_rate("stockroom_admission_refusals_total", "instance"), "{{instance}}")], width=12),
        ],
        "Workers and CPU": [
            Panel(
                "Requests by worker", "reqps", [(_rate("stockroom_worker_requests", "instance, pid"), "{{instance}} {{pid}}")],
                about="Load should lie evenly on them.",
            ),
            Panel(
                "CPU against the limit", "percentunit",
                [(
                    f"{_rate('stockroom_worker_cpu_seconds', 'instance')} / sum by (instance) (stockroom_cpu_limit_cores{{{_SELECTOR}}} > 0)",
                    "{{instance}}",
                )],
                most=1,
            ),
            Panel(
                "Held back for the CPU limit", "percentunit",
                [(_largest_rate("stockroom_cgroup_cpu_throttled_periods", "instance") + " / 10", "{{instance}}")],
                about="Share of the periods of 100 ms in which the kernel held the pod back.", most=1,
            ),
            Panel(
                "Throttled time", "s",
                [(_largest_rate("stockroom_cgroup_cpu_throttled_seconds", "instance"), "{{instance}}")],
                about="In a second, added up over the CPUs that the pod was kept from.",
            ),
            Panel(
                "Event loop's lag", "s",
                [(_quantile(share, "instance", "stockroom_event_loop_lag_seconds"), f"p{share * 100:.0f} {{{{instance}}}}") for share in (0.5, 0.99)],
                about="How much later than asked a timer fires: what every request waits at least.",
            ),
            Panel("CPU for a request", "s", [(f"{_rate('stockroom_worker_cpu_seconds')} / {_rate('stockroom_worker_requests')}", "CPU a request")]),
        ],
    },
)  # fmt: skip

POSTGRESQL = Dashboard(
    "postgresql",
    "Stockroom / PostgreSQL",
    "The database as Stockroom sees it, asked at each scrape on the connection outside of the pools. Every pod says the same: the largest is shown.",
    {
        "Server": [
            Panel("Answers", "bool_yes_no", [(f"min (stockroom_postgres_up{{{_SELECTOR}}})", "")], "stat", "What the pod says that fares worst.", 4),
            Panel("Database", "bytes", [(_largest("stockroom_postgres_database_bytes"), "")], "stat", width=4),
            Panel("Longest transaction", "s", [(_largest("stockroom_postgres_longest_transaction_seconds"), "")], "stat", width=4),
            Panel("Wait for a lock", "short", [(_largest("stockroom_postgres_lock_waiters"), "")], "stat", width=4),
            Panel(
                "Found in memory", "percentunit",
                [(f"{_CACHED} / ({_CACHED} + {_FROM_DISK})", "")],
                "stat", "Blocks that were in PostgreSQL's own cache.", 4,
            ),
            Panel(
                "Deadlocks", "short", [(f"max(increase(stockroom_postgres_deadlocks_total{{{_SELECTOR}}}[$__range]))", "")], "stat",
                "In the time shown.", 4,
            ),
        ],
        "Connections": [
            Panel(
                "By application", "short", [(_most_connections("application"), "{{application}}")],
                about="stockroom: pools, commands and imports. stockroom-direct: readiness, revocations and this. stockroom-worker: jobs.", stacked=True,
            ),
            Panel(
                "By state", "short",
                [(_most_connections("state"), "{{state}}")],
                about="Of other roles' connections the state cannot be seen: unknown.", stacked=True,
            ),
            Panel(
                "Against what is usable", "percentunit", [(f"{_CONNECTIONS} / {_largest('stockroom_postgres_usable_connections')}", "connected / usable")],
            ),
        ],
        "Work": [
            Panel("Transactions", "ops", [(_largest_rate("stockroom_postgres_transactions_total", "outcome"), "{{outcome}}")]),
            Panel("Longest open transaction", "s", [(_largest("stockroom_postgres_longest_transaction_seconds"), "oldest")]),
            Panel("Connections that wait for a lock", "short", [(_largest("stockroom_postgres_lock_waiters"), "waiting")]),
            Panel("Blocks read", "ops", [(_largest_rate("stockroom_postgres_blocks_total", "source"), "{{source}}")]),
            Panel(
                "Written to disk for want of memory", "Bps",
                [(_largest_rate("stockroom_postgres_temporary_bytes_total", "namespace"), "temporary files")],
            ),
            Panel("Size", "bytes", [(_largest("stockroom_postgres_database_bytes"), "this database")]),
        ],
        "As requests see it": [
            Panel(
                "Time with a connection, by route", "s",
                [(f"{_rate(f'{_HOLD}_sum', 'route')} / {_rate(f'{_HOLD}_count', 'route')}", "{{route}}")], about="Mean of a checkout.", width=12,
            ),
            Panel("Connections busy on average, by route", "short", [(_rate(f"{_HOLD}_sum", "route"), "{{route}}")], width=12, stacked=True),
        ],
    },
)  # fmt: skip

JOBS = Dashboard(
    "jobs",
    "Stockroom / Jobs",
    "Do jobs run, and in time? Backlog and lag as PostgreSQL knows them, also when no worker runs; what workers do as they tell it.",
    {
        "Backlog": [
            Panel("Workers", "short", [(_largest("stockroom_job_workers"), "")], "stat", "Heard of within 30 seconds.", 6),
            Panel("Due", "short", [(_largest("stockroom_jobs_due"), "")], "stat", "At most 10,000 are counted.", 6),
            Panel("Lag", "s", [(_largest("stockroom_job_lag_seconds"), "")], "stat", "How long the oldest of them has waited.", 6),
            Panel("Stalled", "short", [(_largest("stockroom_jobs_stalled"), "")], "stat", "Their worker is gone.", 6),
            Panel("Due, running, stalled", "short", [(_largest(f"stockroom_jobs_{kind}"), kind) for kind in ("due", "running", "stalled")], width=12),
            Panel("Lag of the oldest job", "s", [(_largest("stockroom_job_lag_seconds"), "lag")], width=12),
        ],
        "Work": [
            Panel("Jobs ended", "ops", [(_rate("stockroom_jobs_total", "task, outcome"), "{{task}} {{outcome}}")]),
            Panel("Jobs failed", "ops", [(_rate("stockroom_jobs_total", "task", f'{_SELECTOR},outcome!="succeeded"'), "{{task}}")]),
            Panel("Duration, p95", "s", [(_quantile(0.95, "task", "stockroom_job_duration_seconds"), "{{task}}")]),
        ],
        "Reservations and imports": [
            Panel(
                "Expiry's lag", "s", [(_largest("stockroom_reservation_expiry_lag_seconds"), "oldest that is over its time")],
                about="Until it is given back its stock cannot be sold.",
            ),
            Panel("Reservations expired", "ops", [(_rate("stockroom_reservations_total", "", f'{_SELECTOR},outcome="expired"'), "expired")]),
            Panel(
                "Imported rows", "ops",
                [(_largest_rate("stockroom_import_rows_total", "outcome"), "{{outcome}}")],
            ),
        ],
    },
)  # fmt: skip

_KUBE_DEPLOYMENTS = 'namespace="$namespace",deployment=~".*stockroom.*"'
_KUBE_PODS = 'namespace="$namespace",pod=~".*stockroom.*"'

ROLLOUT = Dashboard(
    "rollout",
    "Stockroom / Roll-out",
    "Does the new version do what the old one did? Versions, readiness and draining, errors and latency by pod, connections on the way.",
    {
        "Progress": [
            Panel("Processes by version", "short", [(
                f"count by (component, version) (stockroom_build_info{{{_SELECTOR}}})", "{{component}} {{version}}")], stacked=True),
            Panel("Ready, by check", "short", [(f"sum by (check) (stockroom_ready{{{_SELECTOR}}})", "{{check}}")],
                  about="How many pods pass each; a pod that drains fails only that one."),
            Panel("Draining", "short", [(f'sum (stockroom_ready{{{_SELECTOR},check="draining"}} == bool 0)', "draining")]),
            Panel(
                "Pods of the Deployments", "short",
                [
                    (f"sum by (deployment) (kube_deployment_spec_replicas{{{_KUBE_DEPLOYMENTS}}})", "{{deployment}} wanted"),
                    (f"sum by (deployment) (kube_deployment_status_replicas_updated{{{_KUBE_DEPLOYMENTS}}})", "{{deployment}} updated"),
                    (f"sum by (deployment) (kube_deployment_status_replicas_unavailable{{{_KUBE_DEPLOYMENTS}}})", "{{deployment}} unavailable"),
                ],
                about=NEEDS_KUBE_STATE_METRICS,
            ),
            Panel("Restarts", "short", [(f"sum by (pod) (increase(kube_pod_container_status_restarts_total{{{_KUBE_PODS}}}[$__range]))", "{{pod}}")],
                  about=f"In the time shown. {NEEDS_KUBE_STATE_METRICS}"),
            Panel("Containers that wait", "short", [(f"sum by (pod, reason) (kube_pod_container_status_waiting_reason{{{_KUBE_PODS}}})", "{{pod}} {{reason}}")],
                  about=NEEDS_KUBE_STATE_METRICS),
        ],
        "What clients see": [
            Panel("Requests by pod", "reqps", [(_rate(_COUNT, "instance", _REQUESTS), "{{instance}}")]),
            Panel("Errors by pod", "reqps", [(_rate(_COUNT, "instance, status", f'{_REQUESTS},status=~"5.."') + " or vector(0)", "{{instance}} {{status}}")]),
            Panel("p99 by pod", "s", [(_quantile(0.99, "instance", "stockroom_http_request_duration_seconds", _REQUESTS), "{{instance}}")]),
            Panel("p95 now", "s", [(_quantile(0.95, "namespace", "stockroom_http_request_duration_seconds", _REQUESTS), "now")], width=12),
            Panel(
                "p95 a day ago", "s",
                [(_quantile(0.95, "namespace", "stockroom_http_request_duration_seconds", _REQUESTS, ago=" offset 1d"), "a day ago")],
                about=NEEDS_YESTERDAY, width=12,
            ),
        ],
        "Connections": [
            Panel(
                "Connections on the way", "short",
                [(_CONNECTIONS, "connected"), (_largest("stockroom_planned_peak_connections"), "planned peak")],
                about="Pods of both generations count; the plan has room for them.", width=24,
            ),
        ],
    },
)  # fmt: skip

DASHBOARDS = (SERVICE, CAPACITY, POSTGRESQL, JOBS, ROLLOUT)


def write() -> None:
    """Write them all, and remove what is no longer made."""
    FOLDER.mkdir(exist_ok=True)
    for left in FOLDER.glob("*.json"):
        left.unlink()
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.name}.json").write_text(as_json(dashboard), encoding="utf-8")


if __name__ == "__main__":
    write()
