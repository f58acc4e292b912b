"""The metrics worth their cost. With several workers each process writes files in `PROMETHEUS_MULTIPROC_DIR`, and `/metrics` adds them up."""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# A series more for each combination of labels that nobody asks for, and that several workers do not have anyway.
disable_created_metrics()  # type: ignore[no-untyped-call] # of prometheus_client


class Children(dict[tuple[str, ...], Histogram]):
    """A histogram's parts by their labels. To find one in the histogram itself costs more than what it is told.

    Args:
        histogram: of which they are.
    """

    def __init__(self, histogram: Histogram) -> None:
        super().__init__()
        self._histogram = histogram

    def __missing__(self, labels: tuple[str, ...]) -> Histogram:
        child = self[labels] = self._histogram.labels(*labels)
        return child


REQUEST_DURATION_SECONDS = Histogram(
    "stockroom_http_request_duration_seconds",
    "How long requests took, by route template; its count is the number of requests.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)

# One without labels, for alerts: it is there from the start, and a rate does not see the step from nothing to the first error of a route and status.
SERVER_ERRORS_TOTAL = Counter(
    "stockroom_http_server_errors_total", "Requests that ended with a status of 500 and above, without probes and scrapes."
)

UNHANDLED_ERRORS_TOTAL = Counter(
    "stockroom_unhandled_errors_total", "Requests that ended in a fault of ours (500), by route template.", ["route"]
)

REFUSALS_TOTAL = Counter(
    "stockroom_http_refusals_total",
    "What clients sent, or left unread, that broke a limit or the rules of HTTP, by reason: the name of a problem, `silent` or `unread`.",
    ["reason"],
)

_SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

POOL_WAIT_SECONDS = Histogram(
    "stockroom_db_pool_wait_seconds", "How long a checkout waited for a connection, by route.", ["route"], buckets=_SHORT
)
POOL_HOLD_SECONDS = Histogram("stockroom_db_pool_hold_seconds", "How long a connection was in use, by route.", ["route"], buckets=_SHORT)
POOL_TIMEOUTS_TOTAL = Counter("stockroom_db_pool_timeouts_total", "Checkouts that waited for too long and were refused.")
POOL_SIZE = Gauge("stockroom_db_pool_size", "Connections that the pools can open.", multiprocess_mode="livesum")
POOL_CHECKED_OUT = Gauge("stockroom_db_pool_checked_out", "Connections in use.", multiprocess_mode="livesum")
POOL_WAITING = Gauge("stockroom_db_pool_waiting", "Requests that wait for a connection.", multiprocess_mode="livesum")
PLANNED_PEAK_CONNECTIONS = Gauge(
    "stockroom_planned_peak_connections",
    "Connections to the server at the worst moment of a roll-out, as planned.",
    multiprocess_mode="livemax",
)

ADMISSION_LIMIT = Gauge("stockroom_admission_limit", "Requests that may be in flight.", multiprocess_mode="livesum")
ADMISSION_STANDING_LIMIT = Gauge(
    "stockroom_admission_standing_limit", "Requests that may be in flight for more than a second.", multiprocess_mode="livesum"
)
REQUESTS_IN_FLIGHT = Gauge("stockroom_requests_in_flight", "Requests that are being worked on.", multiprocess_mode="livesum")
ADMISSION_REFUSALS_TOTAL = Counter(
    "stockroom_admission_refusals_total",
    "Requests refused because too many were in flight, or before a login's form was read because too many passwords waited.",
)
ADMISSION_LATE_REFUSALS_TOTAL = Counter(
    "stockroom_admission_late_refusals_total",
    "Those of them that were refused after their body had come, and so are in `stockroom_http_request_duration_seconds` too.",
)

# Gauges, because several workers' counters are added up, and these two are about how evenly the load is spread over them.
WORKER_REQUESTS = Gauge(
    "stockroom_worker_requests", "Requests that a worker has admitted so far; with several, by `pid`.", multiprocess_mode="liveall"
)
WORKER_CPU_SECONDS = Gauge(
    "stockroom_worker_cpu_seconds", "CPU time that a worker has used so far; with several, by `pid`.", multiprocess_mode="liveall"
)
CPU_LIMIT_CORES = Gauge("stockroom_cpu_limit_cores", "The CPU limit that the sizes were planned for.", multiprocess_mode="livemax")

EVENT_LOOP_LAG_SECONDS = Histogram(
    "stockroom_event_loop_lag_seconds",
    "How much later than asked the event loop woke a timer, ten times a second; those missed while it was blocked are counted.",
    buckets=_SHORT,
)
CPU_THROTTLED_SECONDS = Gauge(
    "stockroom_cgroup_cpu_throttled_seconds",
    "How long the kernel has held this pod back for its CPU limit, so far, added up over CPUs.",
    multiprocess_mode="livemax",
)
CPU_THROTTLED_PERIODS = Gauge(
    "stockroom_cgroup_cpu_throttled_periods", "In how many periods the kernel has held this pod back, so far.", multiprocess_mode="livemax"
)

RESERVATIONS_TOTAL = Counter(
    "stockroom_reservations_total", "Reservations, by what became of them; counted when it was committed.", ["outcome"]
)
HELD, COMMITTED, RELEASED, EXPIRED = (RESERVATIONS_TOTAL.labels(outcome) for outcome in ("held", "committed", "released", "expired"))
OVERSELL_REFUSALS_TOTAL = Counter(
    "stockroom_oversell_refusals_total", "What was refused because more was wanted than there is, by what was asked for.", ["operation"]
)
# There from the start: a rate does not see the step from nothing to one.
RESERVE_REFUSALS, COMMIT_REFUSALS, ADJUST_REFUSALS = (
    OVERSELL_REFUSALS_TOTAL.labels(operation) for operation in ("reserve", "commit", "adjust")
)
