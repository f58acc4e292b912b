"""The chart through the real Helm, which `helm-python-sdk` brings along; no cluster, no network."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from tests.chart.manifests import Manifests

Render = Callable[..., Manifests]
Refused = Callable[[dict[str, Any]], str]


@pytest.fixture(scope="session")
def chart_folder() -> Path:
    return Path(__file__).parents[2] / "helm" / "stockroom"


@pytest.fixture(scope="session")
def chart(chart_folder: Path) -> helm.Chart:
    return helm.Chart.load(chart_folder)


@pytest.fixture(scope="session")
def default_values(chart_folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((chart_folder / "values.yaml").read_text())
    return values


@pytest.fixture(scope="session")
def render(chart: helm.Chart) -> Render:
    """Renders the chart with values; the same values once."""

    @cache
    def rendered(values: str, name: str) -> Manifests:
        return Manifests(chart.render(json.loads(values), name=name, namespace="shop"))

    return lambda values=None, *, name="stockroom": rendered(json.dumps(values or {}), name)


@pytest.fixture(scope="session")
def refused(chart: helm.Chart) -> Refused:
    """What Helm says to values that it does not render."""

    def message(values: dict[str, Any]) -> str:
        with pytest.raises(helm.HelmError) as error:
            chart.render(values, name="stockroom", namespace="shop")
        return str(error.value)

    return message
