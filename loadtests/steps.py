"""A step: some seconds at one offered rate, and what became of it."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loadtests.arrivals import Arrivals
from loadtests.offering import Offered, Outcome
from loadtests.samples import Sample, ServerSide, summed_up

WARM_UP_SECONDS = 1.0
"""At the beginning of a step, not counted: connections and caches are not warm yet."""

LEAST_SENT = 0.98
MOST_CPU = 0.9
MOST_LATE = 0.02
LATE_MS = 50.0
"""From this delay on a request went out late, and the generator rather than the server is measured."""

_MOST_KINDS_OF_ERROR = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """What became of requests of one name, or of all. Milliseconds, of those that were served; None when none was."""

    name: str
    requests: int
    errors: int
    refused: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None

    @property
    def error_rate(self) -> float:
        """Share of requests that went wrong."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def refused_rate(self) -> float:
        """Share of requests that were told to come back later."""
        return self.refused / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Second:
    """What became of the requests that were due in one second."""

    at: int
    served: int
    refused: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step.

    Attributes:
        scenario: its name.
        arrivals: how they were distributed.
        rate: operations offered a second.
        seconds: for how long.
        seed: of the arrivals and of what they asked for.
        offered: operations in all.
        sent: of them, those that went out within the step.
        late: those that went out more than `LATE_MS` after they were due.
        dropped: those that never went out.
        served_per_second: requests.
        mean_in_flight: served requests at once, on average (Little's law).
        generator_cpu: share of a core.
        generator_cpu_per_request_ms: all that the generator did, a request.
        void: why the step proves nothing; empty when it does.
        total: all requests.
        by_name: the same by method and route.
        errors: what went wrong, with how often.
        timeline: second by second.
        server: the server's side; None when its metrics could not be read.
    """

    scenario: str
    arrivals: Arrivals
    rate: float
    seconds: float
    seed: int
    offered: int
    sent: int
    late: int
    dropped: int
    served_per_second: float
    mean_in_flight: float
    generator_cpu: float
    generator_cpu_per_request_ms: float
    void: str
    total: Latencies
    by_name: list[Latencies]
    errors: dict[str, int]
    timeline: list[Second]
    server: ServerSide | None


def step_of(
    offered: Offered, samples: Sequence[Sample], *, scenario: str, arrivals: Arrivals, rate: float, seconds: float, seed: int
) -> Step:
    """Sum a step up."""
    begun = [outcome for outcome in offered.outcomes if outcome.is_arrival]
    counted = [outcome for outcome in offered.outcomes if outcome.due >= WARM_UP_SECONDS]
    # Whenever it was due: of those due in the same time the slow ones would be missing, and the longer latencies are the more of them.
    meanwhile = [outcome for outcome in offered.outcomes if outcome.kind == "served" and WARM_UP_SECONDS <= outcome.finished < seconds]
    sent = sum(outcome.sent <= seconds + LATE_MS / 1000 for outcome in begun)
    late = sum(LATE_MS / 1000 < outcome.sent - outcome.due < math.inf for outcome in begun)
    counted_seconds = max(seconds - WARM_UP_SECONDS, 1e-9)
    names: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in counted:
        names[outcome.name].append(outcome)
    return Step(
        scenario=scenario,
        arrivals=arrivals,
        rate=rate,
        seconds=seconds,
        seed=seed,
        offered=len(begun),
        sent=sent,
        late=late,
        dropped=sum(math.isinf(outcome.sent) for outcome in begun),
        served_per_second=len(meanwhile) / counted_seconds,
        mean_in_flight=sum(outcome.latency_ms for outcome in meanwhile) / 1000 / counted_seconds,
        generator_cpu=offered.cpu_share,
        generator_cpu_per_request_ms=offered.cpu_share * seconds * 1000 / max(1, len(offered.outcomes)),
        void=_void(len(begun), len(counted), sent, late, offered.cpu_share),
        total=_latencies("all", counted),
        by_name=[_latencies(name, found) for name, found in sorted(names.items())],
        errors=_errors(counted),
        timeline=list(_timeline(offered.outcomes)),
        server=summed_up(_counted(samples, seconds)),
    )


def _counted(samples: Sequence[Sample], seconds: float) -> Sequence[Sample]:
    # The sample that is due at the end of the warm-up may be a little early, the one at the end of the step a little late.
    counted = [sample for sample in samples if WARM_UP_SECONDS - 0.1 <= sample.at <= seconds + 0.5]
    return counted if len(counted) >= 2 else samples


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The value that so many percent of them do not exceed (nearest rank); None of none."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)] if values else None


def _void(offered: int, counted: int, sent: int, late: int, cpu: float) -> str:
    if not counted:
        return "no request was due after the warm-up"
    if sent < LEAST_SENT * offered:
        return f"only {sent} of {offered} arrivals went out"
    if cpu > MOST_CPU:
        return f"the generator was saturated: it used {cpu:.0%} of a core"
    if late > MOST_LATE * offered:
        return f"the generator could not keep up: {late} of {offered} arrivals went out more than {LATE_MS:g} ms late"
    return ""


def _latencies(name: str, outcomes: Sequence[Outcome]) -> Latencies:
    served = sorted(outcome.latency_ms for outcome in outcomes if outcome.kind == "served")
    return Latencies(
        name=name,
        requests=len(outcomes),
        errors=sum(outcome.kind == "error" for outcome in outcomes),
        refused=sum(outcome.kind == "refused" for outcome in outcomes),
        p50_ms=percentile(served, 50),
        p95_ms=percentile(served, 95),
        p99_ms=percentile(served, 99),
        max_ms=served[-1] if served else None,
    )


def _errors(outcomes: Iterable[Outcome]) -> dict[str, int]:
    found = Counter(f"{outcome.name}: {outcome.status or 'no answer'}" for outcome in outcomes if outcome.kind == "error")
    details = {f"{outcome.name}: {outcome.status or 'no answer'}": outcome.detail for outcome in outcomes if outcome.kind == "error"}
    return {f"{text} {details[text]}".strip(): count for text, count in found.most_common(_MOST_KINDS_OF_ERROR)}


def _timeline(outcomes: Iterable[Outcome]) -> Iterable[Second]:
    seconds: dict[int, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        seconds[int(outcome.due)].append(outcome)
    for at, found in sorted(seconds.items()):
        latencies = _latencies("", found)
        served = latencies.requests - latencies.refused - latencies.errors
        yield Second(at, served, latencies.refused, latencies.errors, latencies.p50_ms, latencies.p99_ms)
