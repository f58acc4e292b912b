"""Objectives: a file that says what must be kept, and findings that say what was."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.objectives import FILE, Objectives, ObjectivesError, check, load
from loadtests.samples import ServerSide
from loadtests.scenarios import SCENARIOS
from loadtests.steps import Step
from tests.loadtests.made import a_server, a_step


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_has_objectives(scenario: str) -> None:
    found = load(FILE, scenario)
    assert found.p99_ms
    assert found.connections == "plan"


def test_a_scenarios_own_values_overrule_the_default(tmp_path: Path) -> None:
    file = tmp_path / "objectives.yaml"
    file.write_text("default: {p99_ms: 100, error_rate: 0}\nscenarios: {login: {p99_ms: 900}}\n")
    assert load(file, "login") == Objectives(p99_ms=900, error_rate=0)
    assert load(file, "mixed") == Objectives(p99_ms=100, error_rate=0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("default: {p98_ms: 1}", "default cannot have 'p98_ms'; there are p50_ms"),
        ("defaults: {p99_ms: 1}", "the file cannot have 'defaults'; there are default, scenarios"),
        ("default: {p99_ms: 1}\nscenarios: {mixd: {p99_ms: 2}}", "scenarios cannot have 'mixd'; there are browse"),
        ("default: {p99_ms: 1}\nscenarios: {login: {p98_ms: 2}}", "login cannot have 'p98_ms'"),
        ("default: p99_ms", "default should have names with values"),
        ("scenarios: {login: {p99_ms: 1}}", "there are no objectives for mixed"),
        ("default:", "there are no objectives for mixed"),
        ("", "there are no objectives for mixed"),
        ("default: {p99_ms: .inf}", "p99_ms should be a number"),
        ("default: {p99_ms: .nan}", "p99_ms should be a number"),
        ("default: {p99_ms: fast}", "p99_ms should be a number"),
        ("default: {p99_ms: -1}", "p99_ms should be a number"),
        ("default: {p99_ms: plan}", "p99_ms should be a number"),
        ("default: [", "cannot read"),
        ("nothing", "the file should have names with values"),
    ],
)
def test_a_file_that_nobody_understands_says_where(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "objectives.yaml"
    file.write_text(content)
    with pytest.raises(ObjectivesError, match=says):
        load(file, "mixed")


def test_a_file_that_is_no_text_is_said(tmp_path: Path) -> None:
    file = tmp_path / "objectives.yaml"
    file.write_bytes(b"default: {p99_ms: 1} # \xff")
    with pytest.raises(ObjectivesError, match="cannot read"):
        load(file, "mixed")


@pytest.mark.parametrize(
    ("step", "missed"),
    [
        (a_step(p99_ms=99), set()),
        (a_step(p99_ms=101), {"p99_ms"}),
        (a_step(p99_ms=None), {"p99_ms"}),
        (a_step(100, refused=10), {"refused_rate"}),
        (a_step(100, errors_seen=1), {"error_rate"}),
        (a_step(server=a_server(wait_p95_ms=60)), {"pool_wait_p95_ms"}),
        (a_step(server=a_server(peak_connections=19)), {"connections"}),
    ],
)
def test_what_is_over_a_limit_is_missed_and_nothing_else(step: Step, missed: set[str]) -> None:
    limits = Objectives(p99_ms=100, error_rate=0, refused_rate=0.01, pool_wait_p95_ms=50, connections="plan")
    assert {finding.name for finding in check(step, limits) if finding.is_missed} == missed


@pytest.mark.parametrize(
    ("server", "says"),
    [
        (a_server(peak_connections=None), "connections: not measured; give PostgreSQL's URL in APP_DATABASE_URL"),
        (a_server(planned_connections=0), "connections: not measured"),
        (None, "pool_wait_p95_ms: not measured; let --metrics name where every pod's /metrics answers"),
    ],
)
def test_what_was_not_measured_is_neither_met_nor_missed_and_says_how_to_measure_it(server: ServerSide | None, says: str) -> None:
    step = replace(a_step(), server=server)
    findings = check(step, Objectives(p99_ms=100, pool_wait_p95_ms=50, connections="plan"))
    assert any(str(finding).startswith(says) for finding in findings if not finding.is_measured)
    assert not any(finding.is_missed for finding in findings)


def test_what_nobody_asked_for_is_not_looked_at() -> None:
    assert [finding.name for finding in check(a_step(), Objectives(error_rate=0))] == ["error_rate"]
