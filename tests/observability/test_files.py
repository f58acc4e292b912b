"""What the chart brings along for watching: current, complete, and about metrics that there are."""

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from app.core.metrics import REQUEST_DURATION_SECONDS
from tests.chart.manifests import Manifests
from tests.chart.options import production
from tests.observability import runbooks
from tests.observability.dashboards import DASHBOARDS, FOLDER
from tests.observability.grafana import as_json
from tests.observability.metrics_page import PAGE, metrics_page
from tests.observability.prometheus import CHART, alerts_of, rendered, rule_groups

ALERTS = alerts_of(rule_groups())
FILES = sorted(FOLDER.glob("*.json"))
# What a query names of ours, without what it makes of them itself (`stockroom:…`) or calls its jobs.
NAMED = re.compile(r"(?<![\w:.*\"])stockroom_[a-z_]+")


def panels_of(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """Every query of dashboards, rules and runbooks."""
    found = [target["expr"] for file in FILES for panel in panels_of(json.loads(file.read_text())) for target in panel["targets"]]
    found += [rule["expr"] for group in rule_groups() for rule in group["rules"]]
    return found + [query for _, query in runbooks.queries()]


def test_the_page_of_metrics_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == metrics_page(), "run `make docs`"


def test_whatever_is_asked_for_is_on_the_page_of_metrics() -> None:
    known = set(re.findall(r"^\| `(stockroom_\w+)`", metrics_page(), re.MULTILINE))
    named = {name for query in queries() for name in NAMED.findall(query)}
    assert {name for name in named if name not in known and re.sub("_(bucket|sum|count)$", "", name) not in known} == set()


def test_whatever_is_measured_is_looked_at_somewhere() -> None:
    known = set(re.findall(r"^\| `(stockroom_\w+)`", metrics_page(), re.MULTILINE))
    named = {
        name
        for query in queries()
        for name in (*NAMED.findall(query), *(re.sub("_(bucket|sum|count)$", "", n) for n in NAMED.findall(query)))
    }
    assert known - named == set()


class TestDashboards:
    def test_are_current(self) -> None:
        assert {file.stem: file.read_text(encoding="utf-8") for file in FILES} == {
            dashboard.name: as_json(dashboard) for dashboard in DASHBOARDS
        }, "run `make docs`"

    @pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
    def test_hold_nothing_that_grafanas_schema_does_not_know(self, file: Path) -> None:
        register_default_plugins()
        dashboard = json.loads(file.read_text(encoding="utf-8"))
        known = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(dashboard)))
        assert lost(dashboard, known) == []

    @pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
    def test_name_no_data_source_and_ask_for_one_release(self, file: Path) -> None:
        dashboard = json.loads(file.read_text(encoding="utf-8"))
        variables = [variable["name"] for variable in dashboard["templating"]["list"]]
        assert variables[:4] == ["datasource", "namespace", "job", "instance"]
        text = file.read_text(encoding="utf-8")
        assert set(re.findall(r'"uid": "(.*?)"', text)) == {f"stockroom-{file.stem}", "${datasource}"}
        for panel in panels_of(dashboard):
            for target in panel["targets"]:
                assert target["expr"].count("{") == target["expr"].count('namespace="$namespace"'), panel["title"]

    @pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
    def test_panels_are_told_apart_and_do_not_lie_on_each_other(self, file: Path) -> None:
        panels = json.loads(file.read_text(encoding="utf-8"))["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken = [
            (x, y)
            for place in (panel["gridPos"] for panel in panels)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(set(taken)) == len(taken)
        assert max(x for x, _ in taken) < 24

    def test_the_chart_makes_a_config_map_of_each_that_grafanas_sidecar_finds(self) -> None:
        made = {name.removeprefix("stockroom-dashboard-"): found for name, found in config_maps({"dashboards": {"enabled": True}}).items()}
        for file in FILES:
            config_map = made[file.stem]
            assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
            ((name, text),) = config_map["data"].items()
            assert name == file.name
            assert json.loads(text) == json.loads(file.read_text(encoding="utf-8"))

    def test_the_objectives_reach_them(self) -> None:
        objectives = {"availabilityPercent": 99.95, "latencyPercent": 95, "latencySeconds": "0.5"}
        values = {
            "dashboards": {"enabled": True, "label": "mine", "labelValue": "yes", "annotations": {"grafana_folder": "Shop"}},
            "objectives": objectives,
        }
        found = config_maps(values)["stockroom-dashboard-service"]
        assert found["metadata"]["labels"]["mine"] == "yes"
        assert found["metadata"]["annotations"] == {"grafana_folder": "Shop"}
        variables = {variable["name"]: variable for variable in json.loads(found["data"]["service.json"])["templating"]["list"]}
        for name, value in {"availability": "99.95", "latency": "95", "slow": "0.5"}.items():
            assert variables[name]["query"] == variables[name]["current"]["value"] == variables[name]["options"][0]["value"] == value


def test_what_leads_prometheus_to_pods_is_not_on_those_that_have_no_metrics() -> None:
    wanted = {"prometheus.io/scrape": "true"}
    values = production(pgbouncer={"enabled": True, "maxClientConnections": 1000}, podAnnotations=wanted)
    annotated = {
        name for name, pod in Manifests(rendered(values)).pods() if pod["metadata"].get("annotations", {}).items() >= wanted.items()
    }
    assert annotated == {"Deployment/stockroom", "Deployment/stockroom-worker"}


class TestRules:
    def test_there_are_none_unless_asked_for(self) -> None:
        kinds = Manifests(rendered({})).kinds()
        assert "PrometheusRule" not in kinds
        assert not [name for name in config_maps({}) if "dashboard" in name]

    def test_every_alert_has_a_runbook_and_every_runbook_an_alert(self) -> None:
        assert runbooks.pages().keys() == ALERTS.keys()
        index = (runbooks.FOLDER / "README.md").read_text(encoding="utf-8")
        assert set(re.findall(r"\((\w+)\.md\)", index)) == ALERTS.keys()

    @pytest.mark.parametrize("name", ALERTS)
    def test_an_alert_leads_to_its_runbook_and_says_how_bad_it_is(self, name: str) -> None:
        alert = ALERTS[name]
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert alert["labels"]["severity"] in {"critical", "warning"}

    def test_runbooks_can_be_elsewhere(self) -> None:
        for name, alert in alerts_of(rule_groups({"prometheusRule": {"runbooks": "https://wiki.example.com/stockroom/"}})).items():
            assert alert["annotations"]["runbook_url"] == f"https://wiki.example.com/stockroom/{name}.md"

    def test_they_are_about_one_release(self) -> None:
        for group in rule_groups():
            for rule in group["rules"]:
                assert rule["expr"].count("{") == rule["expr"].count('namespace="shop"') + rule["expr"].count('service="shop/stockroom"')

    def test_the_objectives_reach_them(self) -> None:
        objectives = {"availabilityPercent": 99.95, "latencyPercent": 95.5, "latencySeconds": "1.0"}
        text = json.dumps(rule_groups({"objectives": objectives}))
        assert "14.4 * 0.0005" in text
        assert "14.4 * 0.045" in text
        assert 'le=\\"1.0\\"' in text
        assert "$" not in text.replace("$value", "").replace("$labels", "")

    def test_what_slow_is_can_only_be_a_bound_of_the_histogram(self) -> None:
        schema = json.loads((CHART / "values.schema.json").read_text())
        bounds = {f"{bound}" for bound in REQUEST_DURATION_SECONDS._upper_bounds}
        assert set(schema["properties"]["objectives"]["properties"]["latencySeconds"]["enum"]) < bounds


class TestRunbooks:
    @pytest.mark.parametrize("name", sorted(runbooks.pages()))
    def test_say_what_it_means_whom_it_hurts_how_to_look_and_what_to_do(self, name: str) -> None:
        text = runbooks.pages()[name]
        assert text.startswith(f"# {name}\n")
        assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == runbooks.SECTIONS
        diagnosis = text.partition("## Diagnosis")[2].partition("## Mitigation")[0]
        assert "```promql" in diagnosis
        assert "```console" in diagnosis

    def test_their_links_lead_somewhere(self) -> None:
        for name, text in {**runbooks.pages(), "README": (runbooks.FOLDER / "README.md").read_text(encoding="utf-8")}.items():
            for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
                assert (runbooks.FOLDER / target).exists(), f"{name}: {target}"

    def test_their_commands_show_what_all_pods_have_logged(self) -> None:
        # Of pods that a label selects kubectl shows ten lines each unless told otherwise, and of a Deployment one pod.
        commands = [line for _, block in runbooks.blocks("console") for line in block.splitlines() if "kubectl logs" in line]
        assert [line for line in commands if "logs deploy/" in line or ("logs -l" in line and "--tail=" not in line)] == []
        assert [line for line in commands if "logs -l" in line and "--since=" in line and "--tail=-1" not in line] == []

    def test_a_job_that_failed_can_be_cleared_away_under_its_name(self) -> None:
        (job,) = [found for found in Manifests(rendered(production())) if found["kind"] == "Job"]
        mitigation = runbooks.pages()["StockroomMigrationFailed"].partition("## Mitigation")[2]
        assert f"kubectl delete job {job['metadata']['name']}`" in mitigation

    def test_their_sql_runs(self, database_url: str) -> None:
        with psycopg.connect(database_url) as connection:
            for name, block in runbooks.blocks("sql"):
                assert connection.execute(block.encode()).description, name


def config_maps(values: dict[str, Any]) -> dict[str, Any]:
    return {found["metadata"]["name"]: found for found in Manifests(rendered(values)) if found["kind"] == "ConfigMap"}


def lost(written: Any, known: Any, where: str = "") -> list[str]:
    """What is in the one and not in the other, or is something else there."""
    if isinstance(written, dict) and isinstance(known, dict):
        return [path for name, value in written.items() for path in lost(value, known.get(name, None), f"{where}/{name}")]
    if isinstance(written, list) and isinstance(known, list) and len(written) == len(known):
        return [path for number, value in enumerate(written) for path in lost(value, known[number], f"{where}/{number}")]
    return [] if written == known else [where]
