"""The metrics worth their cost. With several workers each process writes files in `PROMETHEUS_MULTIPROC_DIR`, and `/metrics` adds them up."""

from prometheus_client import Counter, Histogram, disable_created_metrics

# A series more for each combination of labels that nobody asks for, and that several workers do not have anyway.
disable_created_metrics()  # type: ignore[no-untyped-call] # of prometheus_client

REQUEST_DURATION_SECONDS = Histogram(
    "stockroom_http_request_duration_seconds",
    "How long requests took, by route template; its count is the number of requests.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)

UNHANDLED_ERRORS_TOTAL = Counter(
    "stockroom_unhandled_errors_total", "Requests that ended in a fault of ours (500), by route template.", ["route"]
)

REFUSALS_TOTAL = Counter(
    "stockroom_http_refusals_total",
    "What clients sent, or left unread, that broke a limit or the rules of HTTP, by reason: the name of a problem, `silent` or `unread`.",
    ["reason"],
)
