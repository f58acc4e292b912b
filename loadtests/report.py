"""The report: one HTML file with everything in it, for somebody who was not there."""

from collections.abc import Callable, Sequence
from html import escape
from operator import attrgetter

from loadtests.bootstrap import Interval
from loadtests.knee import Knee
from loadtests.markup import STYLE, bullets, grid, how_to_read, ms, table
from loadtests.objectives import Finding
from loadtests.plots import BLUE, GREEN, GREY, ORANGE, RED, Mark, Point, Series, chart, heat_map
from loadtests.results import Judged, Result
from loadtests.steps import LATE_MS, WARM_UP_SECONDS, Step
from loadtests.summary import knee_in_words, summary
from loadtests.sweep import LEAST_REFUSED, MOST_REFUSED, TOLERANCE, Cell, Swept, share

_MOST_LATENCY = 4.0
"""Latencies above so many times their objective are drawn at the plot's edge: how bad is no longer interesting."""


_UNTOLD = '<span class="bad">cannot be told</span>'


def page(results: Sequence[Result]) -> str:
    """All results on one page."""
    body = "".join([_head(results), _verdict(results), bullets(summary(results)), *map(_section, results), how_to_read()])
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Stockroom load test</title><style>{STYLE}</style><body>{body}</body></html>\n'


def _verdict(results: Sequence[Result]) -> str:
    failures = [f"{result.command}: {failure}" for result in results for failure in result.failures]
    untold = [f"{result.command}: {reason}" for result in results for reason in result.untold]
    boxes = []
    if failures:
        boxes.append(f'<div class="verdict fail"><b>It does not hold</b>{bullets(failures)}</div>')
    if untold:
        boxes.append(f'<div class="verdict untold"><b>It cannot be told</b>{bullets(untold)}</div>')
    if not boxes:
        boxes.append(
            '<div class="verdict pass"><b>It holds</b><div>Every objective is met, nothing is wrong with the sizes, and the books agree.</div></div>'
        )
    return "".join(boxes)


def _head(results: Sequence[Result]) -> str:
    where = "; ".join(dict.fromkeys(result.description for result in results))
    when = max(result.made_at for result in results)
    return f'<h1>Stockroom load test</h1><div class="note">{when:%Y-%m-%d %H:%M} UTC. {escape(where)}.</div>'


def _section(result: Result) -> str:
    parts = [f"<h2>{escape(result.command.capitalize())}: {escape(result.scenario)}</h2>"]
    if result.sizing_faults:
        parts.append(f'<div class="verdict fail"><b>The sizing is wrong</b>{bullets(result.sizing_faults)}</div>')
    if result.sweep is not None:
        parts.append(_sweep(result.sweep))
    elif result.command == "run":
        parts += [_run(judged, result) for judged in result.steps]
    else:
        parts.append(_knee(result))
    if result.checks:
        parts.append("<h3>The books afterwards</h3>" + _checks(result))
    return "".join(parts)


def _run(judged: Judged, result: Result) -> str:
    step, limits = judged.step, result.objectives
    seconds = step.timeline
    moments = step.server.moments if step.server else []
    planned = step.server.planned_connections if step.server else None
    plots = [
        chart(
            "Latency, second by second",
            "seconds",
            "ms, from when it was due",
            [
                Series("p99", [(second.at, second.p99_ms) for second in seconds], RED),
                Series("p50", [(second.at, second.p50_ms) for second in seconds], BLUE),
            ],
            _limit_marks(p99=limits.p99_ms),
        ),
        chart(
            "What became of the requests",
            "seconds",
            "requests a second",
            [
                Series("served", [(second.at, second.served) for second in seconds], GREEN),
                Series("refused", [(second.at, second.refused) for second in seconds], ORANGE),
                Series("errors", [(second.at, second.errors) for second in seconds], RED),
            ],
        ),
        chart(
            "The pool",
            "seconds",
            "connections, requests",
            [
                Series("checked out", [(moment.at, moment.checked_out) for moment in moments], BLUE),
                Series("waiting", [(moment.at, moment.waiting) for moment in moments], ORANGE),
            ],
            [Mark("pool size", GREY, y=step.server.pool_size)] if step.server else [],
        ),
        chart(
            "Connections against the plan",
            "seconds",
            "connections to PostgreSQL",
            [Series("connected", [(moment.at, moment.backends) for moment in moments], BLUE)],
            [Mark("planned peak", RED, y=planned)] if planned else [],
        ),
    ]
    return (
        f"<p>{escape(_offered_in_words(judged))}</p>{_findings(judged)}{grid(plots)}<h3>Requests by route</h3>{_routes(judged)}"
        f"<h3>The server's side</h3>{_server(judged)}{_errors(judged)}"
    )


def _knee(result: Result) -> str:
    assert result.knee is not None
    knee, limits = result.knee, result.objectives
    ordered = _last_of_each_rate(result.steps)
    served = [step for step in ordered if step.server]
    knee_mark = [Mark(f"knee {knee.rate:.0f}", GREEN, x=knee.rate)] if knee.rate else []
    predicted = [Mark(f"predicted {knee.prediction.rate:.0f}", GREY, x=knee.prediction.rate)] if knee.prediction else []
    top = max((step.rate for step in ordered), default=1.0)
    plots = [
        chart(
            "Latency against offered rate",
            "operations offered a second",
            "ms, from when it was due",
            [
                Series("p99", [(step.rate, step.total.p99_ms) for step in ordered], RED),
                Series("p95", [(step.rate, step.total.p95_ms) for step in ordered], ORANGE),
                Series("p50", [(step.rate, step.total.p50_ms) for step in ordered], BLUE),
            ],
            [*knee_mark, *_limit_marks(p99=limits.p99_ms)],
            most_y=None if limits.p99_ms is None else limits.p99_ms * _MOST_LATENCY,
        ),
        chart(
            "Throughput and the knee",
            "operations offered a second",
            "requests a second",
            [
                Series("served", [(step.rate, step.served_per_second) for step in ordered], GREEN),
                Series("refused", [(step.rate, step.total.refused / (step.seconds - WARM_UP_SECONDS)) for step in ordered], ORANGE),
                Series("offered", [(0, 0), (top, top)], GREY, dashed=True),
            ],
            [*knee_mark, *predicted],
        ),
        chart(
            "Waiting for a connection of the pool",
            "operations offered a second",
            "ms (p95 of checkouts)",
            [Series("pool wait", [(step.rate, step.server.wait_p95_ms) for step in served if step.server], BLUE)],
            [*knee_mark, *_limit_marks(pool_wait=limits.pool_wait_p95_ms)],
        ),
        chart(
            "CPU of the workers",
            "operations offered a second",
            "cores",
            [
                Series("workers", [(step.rate, step.server.cpu_cores) for step in served if step.server], BLUE),
                Series("PostgreSQL", [(step.rate, step.server.database_cpu_cores) for step in served if step.server], ORANGE),
                Series("generator", [(step.rate, step.generator_cpu) for step in ordered], GREY),
            ],
            [*knee_mark, *([Mark("CPU limit", RED, y=served[-1].server.cpu_limit)] if served and served[-1].server else [])],
        ),
        chart(
            "Connections against the plan",
            "operations offered a second",
            "most connections seen",
            [Series("connected", [(step.rate, step.server.peak_connections) for step in served if step.server], BLUE)],
            [Mark("planned peak", RED, y=served[-1].server.planned_connections)] if served and served[-1].server else [],
        ),
        chart(
            "Throughput against concurrency, and the USL fitted to it",
            "served requests at once, on average",
            "requests a second",
            [Series("measured", sorted((step.mean_in_flight, step.served_per_second) for step in ordered), GREEN), *_law(knee, ordered)],
        ),
    ]
    return f"<p>{escape(knee_in_words(knee))}</p>{_cross_checks(knee)}{grid(plots)}<h3>Every step</h3>{_steps(result.steps)}"


def _last_of_each_rate(steps: Sequence[Judged]) -> list[Step]:
    """Of a rate that was tried twice only the second time counts."""
    found = {judged.step.rate: judged.step for judged in steps if not judged.step.void}
    return [found[rate] for rate in sorted(found)]


def _law(knee: Knee, steps: Sequence[Step]) -> list[Series]:
    if knee.usl is None:
        return []
    most = max(step.mean_in_flight for step in steps)
    law = knee.usl
    return [Series("USL", [(most * part / 60, law.throughput(most * part / 60)) for part in range(61)], GREY, dashed=True)]


def _cross_checks(knee: Knee) -> str:
    lines = []
    if knee.prediction is not None:
        found = knee.prediction
        pool = "operations need no connection" if found.by_pool is None else f"the pools would allow {found.by_pool:.0f}"
        lines.append(
            f"Predicted from low load: one more operation costs the workers {found.cpu_per_operation_ms:.3f} ms of CPU, beside"
            f" {found.idle_cores:.3f} cores that are always used, and holds a connection for {found.hold_per_operation_ms:.2f} ms."
            f" So the CPU limit is enough for {found.by_cpu:.0f} operations a second with the latencies that are wanted, and {pool}."
        )
    if knee.usl is not None:
        law = knee.usl
        most = "no bound within reach" if knee.most is None else f"at most {knee.most:.0f} operations a second"
        lines.append(
            f"The Universal Scalability Law, fitted to all steps (relative error {law.error:.0%}):"
            f" contention {law.contention:.3g}, crosstalk {law.crosstalk:.3g}, {most}."
        )
    return bullets(lines)


def _sweep(swept: Swept) -> str:
    plots = [
        _map_of_shares(swept, title, ratio)
        for title, ratio in (
            ("Served under overload, % of what the derived point serves", attrgetter("throughput_ratio")),
            ("p99 below the knee, % of the derived point's", attrgetter("p99_ratio")),
        )
    ]
    rows = [
        (
            str(cell.sizing) + (" (derived)" if cell.sizing == swept.derived else ""),
            "" if cell.throughput is None else f"{cell.throughput:.0f}",
            "" if cell.throughput_ratio is None else share(cell.throughput_ratio),
            ms(cell.p99_ms),
            "" if cell.p99_ratio is None else share(cell.p99_ratio),
        )
        for cell in sorted(swept.cells, key=lambda cell: (cell.sizing.workers, cell.sizing.pool))
    ]
    note = (
        "For each pair two servers were started, one of the derived point and one of the row's, and loaded "
        f"{'at the same moment' if swept.at_once else 'one after the other, since no two can be held apart here'}. Shares are the derived"
        " point's of the row's, with their middle (pseudomedian) and 95 % bootstrap intervals over all pairs: more than 100 % served is better than the"
        " row's, more than 100 % of its p99 is worse. Figures of different rows were not measured at the same moment: compare the shares. The maps"
        " show them the other way round: each point beside the derived one, which is 100 %."
        f" The derived sizing is right when its share of what each point serves is at least {1 - TOLERANCE:.0%}, interval included, and its p99 in the"
        f" middle at most {1 + TOLERANCE:.0%} of that of each point that may serve more. Throughputs count where both refused"
        f" {LEAST_REFUSED:.0%} or more and the derived point at most {MOST_REFUSED:.0%}, p99s where both kept the objectives of refusals and errors."
    )
    head = ("workers x pool", "served/s", "derived serves", "p99", "derived's p99")
    return f"<p>{escape(swept.verdict.capitalize())}.</p>{grid(plots)}{table(head, rows)}<p class=note>{escape(note)}</p>"


def _map_of_shares(swept: Swept, title: str, ratio: Callable[[Cell], Interval | None]) -> str:
    """Each point beside the derived one, which is 100 %: only what was measured at the same moment can be compared."""
    derived = (swept.derived.pool, swept.derived.workers)
    shares: dict[Point, float] = {derived: 100}
    for cell in swept.cells:
        if (found := ratio(cell)) and found.middle:
            shares[cell.sizing.pool, cell.sizing.workers] = 100 / found.middle
    return heat_map(title, "connections of each pool", "workers", shares, marked=derived, mark_label="derived by the plan")


def _offered_in_words(judged: Judged) -> str:
    step = judged.step
    text = (
        f"{step.offered} operations, {step.arrivals} arrivals at {step.rate:g} a second with seed {step.seed}: {step.sent} went out in time,"
        f" {step.late} more than {LATE_MS:g} ms late, {step.dropped} never. {step.served_per_second:.0f} requests were served a second."
        f" The generator used {step.generator_cpu:.0%} of a core."
    )
    return text + (f" The step is void: {step.void}." if step.void else "")


def _findings(judged: Judged) -> str:
    rows = [
        (
            finding.name,
            *_found(finding.found),
            "" if finding.limit is None else f"{finding.limit:g}",
            _met(finding),
        )
        for finding in judged.findings
    ]
    return table(("objective", "found", "at most", ""), rows, raw=True)


def _found(value: float | None) -> tuple[str]:
    return ("" if value is None else f"{value:.4g}",)


def _met(finding: Finding) -> str:
    if not finding.is_measured:
        return '<span class="bad">not measured</span>'
    return '<span class="bad">missed</span>' if finding.is_missed else '<span class="good">met</span>'


def _steps(steps: Sequence[Judged]) -> str:
    head = (
        "offered/s",
        "served/s",
        "p50",
        "p95",
        "p99",
        "refused",
        "errors",
        "CPU/request",
        "hold",
        "pool wait p95",
        "generator/request",
        "",
    )
    rows = []
    for judged in steps:
        step, server = judged.step, judged.step.server
        rows.append(
            (
                f"{step.rate:.0f}",
                f"{step.served_per_second:.0f}",
                *(ms(value) for value in (step.total.p50_ms, step.total.p95_ms, step.total.p99_ms)),
                f"{step.total.refused_rate:.2%}",
                f"{step.total.error_rate:.2%}",
                *(
                    (f"{server.cpu_per_request_ms:.3f} ms", f"{server.hold_mean_ms:.2f} ms", ms(server.wait_p95_ms))
                    if server
                    else ("", "", "")
                ),
                f"{step.generator_cpu_per_request_ms:.3f} ms",
                "; ".join(judged.failures) or "ok",
            )
        )
    return table(head, rows, kind="wide")


def _routes(judged: Judged) -> str:
    rows = [
        (
            found.name,
            str(found.requests),
            *(ms(value) for value in (found.p50_ms, found.p95_ms, found.p99_ms, found.max_ms)),
            str(found.refused),
            str(found.errors),
        )
        for found in [*judged.step.by_name, judged.step.total]
    ]
    return table(("", "requests", "p50", "p95", "p99", "longest", "refused", "errors"), rows)


def _server(judged: Judged) -> str:
    server = judged.step.server
    if server is None:
        return "<p>Its metrics could not be read.</p>"
    shares = ", ".join(f"{share:.0%}" for share in server.requests_by_worker)
    rows = [
        ("workers", f"{server.workers} in {server.pods} pod(s), which took {shares} of the requests"),
        ("CPU", f"{server.cpu_cores:.2f} of {server.cpu_limit:g} cores; {server.cpu_per_request_ms:.3f} ms a request"),
        ("held back by the kernel", f"{server.throttled_share:.1%} of the time" + (", the mean of the pods" if server.pods > 1 else "")),
        ("event loop lag, p99", f"{server.lag_p99_ms:.1f} ms"),
        (
            "pool",
            f"up to {server.checked_out:.0f} of {server.pool_size:.0f} connections in use, up to {server.waiting:.0f} requests waiting",
        ),
        ("a connection is held for", f"{server.hold_mean_ms:.2f} ms, {server.holds_per_request:.2f} times a request"),
        *(
            [("looked at", f"{server.looks} times; {server.looks_left_out} were left out, because not every pod answered")]
            if server.looks_left_out
            else []
        ),
        ("refused at the door", f"{server.refused_at_the_door:.0f} requests"),
        (
            "connections to PostgreSQL",
            "not measured"
            if server.peak_connections is None
            else f"at most {server.peak_connections}; {server.planned_connections:.0f} are planned",
        ),
        ("PostgreSQL's CPU", "not measured" if server.database_cpu_cores is None else f"{server.database_cpu_cores:.2f} cores"),
    ]
    return table(("", ""), rows, kind="wide")


def _errors(judged: Judged) -> str:
    if not judged.step.errors:
        return ""
    return "<h3>Errors</h3>" + table(("", "times"), [(text, str(count)) for text, count in judged.step.errors.items()])


def _checks(result: Result) -> str:
    rows = [
        (
            check.name,
            str(check.looked_at),
            '<span class="bad">no</span>' if check.problems else _UNTOLD if check.untold else '<span class="good">yes</span>',
        )
        for check in result.checks
    ]
    return table(("", "looked at", "holds"), rows, raw=True) + bullets(
        problem for check in result.checks for problem in [*check.problems[:10], *check.untold[:10]]
    )


def _limit_marks(**limits: float | None) -> list[Mark]:
    return [Mark(f"{name.replace('_', ' ')} objective", RED, y=limit) for name, limit in limits.items() if limit is not None]
