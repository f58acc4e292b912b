"""Grafana's JSON of a dashboard that is written down as panels and queries. No data source is named: a variable chooses it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
Query = tuple[str, str]
"""PromQL, and a legend."""

_DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: what it shows.
        unit: Grafana's name of it.
        queries: what is drawn.
        kind: how.
        about: for who hovers over it.
        width: of 24.
        stacked: whether areas stand on one another.
        most: the top of the axis, where there is one.
    """

    title: str
    unit: str
    queries: Sequence[Query]
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    about: str = ""
    width: int = 8
    stacked: bool = False
    most: float | None = None


@dataclass(frozen=True)
class Dashboard:
    """A page of rows of panels.

    Attributes:
        name: of its file; its `uid` is made of it.
        title: for people.
        about: what it answers.
        rows: panels by the row's title.
    """

    name: str
    title: str
    about: str
    rows: dict[str, Sequence[Panel]]


def as_json(dashboard: Dashboard) -> str:
    """A dashboard as Grafana imports it."""
    panels = list(_panels(dashboard))
    made = {
        "uid": f"stockroom-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["stockroom"],
        "style": "dark",
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "schemaVersion": 38,
        "templating": {"list": _variables()},
        "links": [
            {
                "title": "Stockroom", "type": "dashboards", "icon": "external link", "tooltip": "", "tags": ["stockroom"], "asDropdown": True,
                "targetBlank": False, "includeVars": True, "keepTime": True,
            },
        ],
        "panels": panels,
    }  # fmt: skip
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _panels(dashboard: Dashboard) -> Iterator[Json]:
    number, top = 0, 0
    for title, panels in dashboard.rows.items():
        number += 1
        yield {
            "id": number, "type": "row", "title": title, "collapsed": False, "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1}, "panels": [],
        }  # fmt: skip
        top, left, tallest = top + 1, 0, 0
        for panel in panels:
            if left + panel.width > _WIDTH:
                top, left, tallest = top + tallest, 0, 0
            number += 1
            height = 4 if panel.kind == "stat" else 8
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": height})
            left, tallest = left + panel.width, max(tallest, height)
        top += tallest


def _panel(panel: Panel, number: int, place: Json) -> Json:
    drawn: Json = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 20 if panel.stacked else 5, "showPoints": "never"}
    if panel.stacked:
        drawn["stacking"] = {"mode": "normal", "group": "A"}
    defaults: Json = {"unit": panel.unit, "min": 0, "custom": drawn}
    if panel.most is not None:
        defaults["max"] = panel.most
    options: Json = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    if panel.kind == "stat":
        defaults = {"unit": panel.unit, "decimals": 2}
        options = {
            "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""}, "orientation": "auto", "textMode": "auto",
            "colorMode": "value", "graphMode": "none", "justifyMode": "auto",
        }  # fmt: skip
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATA_SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _DATA_SOURCE, "expr": query, "legendFormat": legend or "__auto", "editorMode": "code", "range": True}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }  # fmt: skip


def _variables() -> list[Json]:
    def asked(name: str, label: str, values: str, *, several: bool) -> Json:
        everything = {"text": "All", "value": "$__all", "selected": True}
        return {
            "type": "query", "name": name, "label": label, "datasource": _DATA_SOURCE,
            "query": {"query": values, "refId": name}, "refresh": 2, "sort": 1, "multi": several, "includeAll": several,
            **({"allValue": ".*", "current": everything} if several else {}),
        }  # fmt: skip

    def written(name: str, label: str, value: str) -> Json:
        current = {"text": value, "value": value, "selected": True}
        return {"type": "textbox", "name": name, "label": label, "query": value, "current": current, "options": [current]}

    return [
        {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1, "multi": False},
        asked("namespace", "Namespace", "label_values(stockroom_build_info, namespace)", several=False),
        asked("job", "Job", 'label_values(stockroom_build_info{namespace="$namespace"}, job)', several=True),
        asked("instance", "Instance", 'label_values(stockroom_build_info{namespace="$namespace",job=~"$job"}, instance)', several=True),
        written("availability", "Availability objective, %", "99.9"),
        written("latency", "Latency objective, %", "99"),
        written("slow", "Slow is over, s", "0.25"),
    ]
