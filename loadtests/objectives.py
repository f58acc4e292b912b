"""Objectives as code: what a step must keep to pass."""

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict

from loadtests.samples import ServerSide
from loadtests.scenarios import SCENARIOS
from loadtests.steps import Step

FILE = Path(__file__).with_name("objectives.yaml")


class ObjectivesError(Exception):
    """The file cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """Upper limits; None for no such objective. Times in milliseconds, rates as shares of all requests."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    error_rate: float | None = None
    refused_rate: float | None = None
    pool_wait_p95_ms: float | None = None
    connections: float | Literal["plan"] | None = None

    @property
    def spare_per_second(self) -> float:
        """How many requests a second more than come must be able to be served, for the latencies to be met; 0 where none is asked for.

        In an M/M/1 queue, to which a server that lacks CPU comes near, times in the system are distributed exponentially, with the difference of both rates
        (L. Kleinrock, "Queueing Systems", volume 1): a share q of them is at most t when the difference is -ln(1 - q) / t.
        """
        limits = ((0.5, self.p50_ms), (0.95, self.p95_ms), (0.99, self.p99_ms))
        needed = (-math.log1p(-share) * 1000 / limit_ms if limit_ms else math.inf for share, limit_ms in limits if limit_ms is not None)
        return max(needed, default=0.0)


@dataclass(frozen=True, slots=True)
class Finding:
    """An objective, held against what was found.

    Args:
        name: of the objective.
        found: None when it was not measured.
        limit: the most that is allowed; None when the limit itself could not be read.
    """

    # When nothing was served a latency is infinite, for which JSON has no number.
    __pydantic_config__ = ConfigDict(ser_json_inf_nan="strings")

    name: str
    found: float | None
    limit: float | None

    @property
    def is_measured(self) -> bool:
        """Whether there is something to hold, and something to hold it against."""
        return self.found is not None and self.limit is not None

    @property
    def is_missed(self) -> bool:
        """Whether it was measured and is over the limit."""
        return self.found is not None and self.limit is not None and not self.found <= self.limit

    def __str__(self) -> str:
        if self.found is None or self.limit is None:
            return f"{self.name}: not measured; {_HOW_TO_MEASURE[self.name]}, or leave the objective out"
        if math.isinf(self.found):
            return f"{self.name}: nothing was served"
        return f"{self.name}: {self.found:.4g}, {'over' if self.is_missed else 'within'} {self.limit:g}"


_HOW_TO_MEASURE = {
    "pool_wait_p95_ms": "let --metrics name where every pod's /metrics answers",
    "connections": "give PostgreSQL's URL in APP_DATABASE_URL, let --metrics name where every pod's /metrics answers",
}
"""Of those that can be left unmeasured."""


def load(file: Path, scenario: str) -> Objectives:
    """A scenario's objectives.

    Raises:
        ObjectivesError: the file is missing, or says something that nobody understands.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ObjectivesError(f"cannot read the objectives in {file}: {error}") from None
    parts = _mapping(file, content, "the file", ("default", "scenarios"))
    own = _mapping(file, parts.get("scenarios"), "scenarios", SCENARIOS)
    limits = {name: _limits(file, name, values) for name, values in {"default": parts.get("default"), **own}.items()}
    found = limits["default"] | limits.get(scenario, {})
    if not found:
        raise ObjectivesError(f"{file}: there are no objectives for {scenario}; whatever comes would pass")
    return Objectives(**found)


def check(step: Step, objectives: Objectives) -> list[Finding]:
    """Every objective that there is, held against a step."""
    findings = [
        Finding("p50_ms", _or_infinite(step.total.p50_ms), objectives.p50_ms),
        Finding("p95_ms", _or_infinite(step.total.p95_ms), objectives.p95_ms),
        Finding("p99_ms", _or_infinite(step.total.p99_ms), objectives.p99_ms),
        Finding("error_rate", step.total.error_rate, objectives.error_rate),
        Finding("refused_rate", step.total.refused_rate, objectives.refused_rate),
        Finding("pool_wait_p95_ms", step.server.wait_p95_ms if step.server else None, objectives.pool_wait_p95_ms),
        Finding("connections", step.server.peak_connections if step.server else None, _connections(objectives, step.server)),
    ]
    return [finding for finding in findings if getattr(objectives, finding.name) is not None]


def _connections(objectives: Objectives, server: ServerSide | None) -> float | None:
    if objectives.connections != "plan":
        return objectives.connections
    # Without a plan there is nothing to hold connections against.
    return None if server is None else server.planned_connections or None


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value


_NAMES = [field.name for field in fields(Objectives)]


def _mapping(file: Path, content: object, what: str, names: Collection[str]) -> dict[str, Any]:
    """Content whose keys are among these names; an empty one of nothing."""
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ObjectivesError(f"{file}: {what} should have names with values, not {content!r}")
    if unknown := [name for name in content if name not in names]:
        raise ObjectivesError(f"{file}: {what} cannot have {unknown[0]!r}; there are {', '.join(names)}")
    return content


def _limits(file: Path, what: str, content: object) -> dict[str, Any]:
    return {name: _limit(file, name, value) for name, value in _mapping(file, content, what, _NAMES).items()}


def _limit(file: Path, name: str, value: object) -> Any:
    if name == "connections" and value == "plan":
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ObjectivesError(f"{file}: {name} should be a number from 0 on, not {value!r}")
    return value
