"""`docs/operations/metrics.md`, made of the metrics themselves. `make docs` writes it; a test holds it current."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from app.api.metrics import KEY_EXPIRY, KEY_EXPIRY_HELP, READY, READY_HELP
from app.core import metrics
from app.core.exposition import BUILD_INFO, BUILD_INFO_HELP
from app.core.readings import READINGS, UP, UP_HELP
from app.jobs import metrics as job_metrics

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "metrics.md"

_ABOUT = """# Metrics

Made by `make docs` from the metrics themselves. The api's pods serve `/metrics` on their port, job workers on `APP_WORKER_METRICS_PORT` (8001 in the chart).

- **Scraping**: `serviceMonitor.enabled` or `podMonitor.enabled` of the chart, for Prometheus' operator. Where pods are found by annotations instead,
  `scrapeAnnotations.enabled` gives each pod its own. With `networkPolicy.from` let Prometheus in. The tests scrape a server with two workers and a job
  worker by a real Prometheus on one machine, and pods by their annotations on a cluster (with `PROMETHEUS_IMAGE`); monitors were accepted by one, without
  an operator that acts on them.
- **Several workers in a pod** are added up by whichever of them answers. One that has ended keeps its part of counters and histograms, and none of
  gauges; `pid` tells workers apart where that is the point.
- **Over pods**: add counters, histograms and gauges up (`sum`), except where the tables say *largest*: every pod says the
  same then (`max`). *A pod's own* is the same from all its workers: compare pods by it.
- **Cardinality** is bounded: `route` is a route's template (`unmatched` for the rest), never a path; all other labels have few values.
- **Probes and scrapes** (`/livez`, `/healthz`, `/metrics`) are in the histogram of requests: leave them out of rates, as alerts and dashboards do.
- **A scrape** of two workers that had answered on seven routes was 34 kB and cost them 6 ms of CPU, and PostgreSQL 1.5 ms with an empty database.
- **Alerts and dashboards** are in the chart: `prometheusRule.enabled`, `dashboards.enabled`, `objectives`. Each alert has a [runbook](../runbooks/README.md).

| how the objectives are measured | |
|---|---|
| requests | `stockroom_http_request_duration_seconds_count` without probes, and `stockroom_admission_refusals_total` less the late ones, which are in both |
| failed | `stockroom_http_server_errors_total`, and all that was refused |
| slow | those above the bound `le` of `objectives.latencySeconds` |
"""

_OVER_PODS = {"livesum": "sum", "livemax": "a pod's own", "liveall": "by `pid`"}


def metrics_page() -> str:
    """The page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _ABOUT
    yield from _table("The api's processes", _declared(metrics))
    yield "Found out at the scrape, by the worker that answers it:"
    yield ""
    yield from _rows(
        [
            (READY, "gauge", ("check",), READY_HELP, "", ""),
            (KEY_EXPIRY, "gauge", (), KEY_EXPIRY_HELP, "", "smallest"),
            (BUILD_INFO, "gauge", ("version", "component", "python"), BUILD_INFO_HELP, "", "count"),
        ]
    )
    yield from _table(
        "PostgreSQL and jobs, as the api's pods read them",
        [
            (UP, "gauge", (), UP_HELP, "", "smallest"),
            *((reading.name, reading.kind, reading.labels, reading.help, "", "largest") for reading in READINGS),
        ],
    )
    yield "Read at each scrape in one statement, on the connection that a process holds outside of its pool; they are there when no job worker runs."
    yield ""
    told = [row for row in _declared(metrics) if row[0].removesuffix("_total") in job_metrics.TOLD]
    yield from _table("Job workers", [*_declared(job_metrics), *told])
    yield f"And `{BUILD_INFO}`, and `process_*` of prometheus_client. A pod of the api with a single worker has `process_*` and `python_*` too."


_Row = tuple[str, str, tuple[str, ...], str, str, str]
"""Name, type, labels, meaning, buckets, and how pods are put together."""


def _declared(module: object) -> Iterator[_Row]:
    for metric in vars(module).values():
        # Children, such as `HELD`, have the labels' values already.
        if isinstance(metric, MetricWrapperBase) and not (metric._labelnames and metric._labelvalues):
            yield _row(metric)


def _row(metric: MetricWrapperBase) -> _Row:
    name, buckets, pods = metric._name, "", "sum"
    if isinstance(metric, Counter):
        name += "_total"
    elif isinstance(metric, Gauge):
        pods = _OVER_PODS[metric._multiprocess_mode]
    elif isinstance(metric, Histogram):
        buckets = f" Bounds: {', '.join(f'{bound:g}' for bound in metric._upper_bounds[:-1])}."
    return name, str(metric._type), tuple(metric._labelnames), metric._documentation, buckets, pods


def _table(title: str, rows: Iterable[_Row]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield from _rows(rows)


def _rows(rows: Iterable[_Row]) -> Iterator[str]:
    yield "| metric | type | labels | what it says | over pods |"
    yield "|---|---|---|---|---|"
    for name, kind, labels, meaning, buckets, pods in rows:
        yield f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {meaning}{buckets} | {pods} |"
    yield ""


def write() -> None:
    """Write it."""
    PAGE.write_text(metrics_page(), encoding="utf-8")


if __name__ == "__main__":
    write()
