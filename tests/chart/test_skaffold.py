"""`skaffold.yaml` fits its schema, where that is at hand, and names only what is there."""

import json
import os
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import pytest
import yaml

from tests.chart.manifests import Manifests

ROOT = Path(__file__).parents[2]
SCHEMA = os.environ.get("SKAFFOLD_SCHEMA")
"""A file with Skaffold's JSON schema (v4beta13.json of its repository)."""


@pytest.fixture(scope="module")
def skaffold() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    return found


@pytest.mark.skipif(SCHEMA is None, reason="SKAFFOLD_SCHEMA does not name Skaffold's schema")
def test_it_fits_its_schema(skaffold: dict[str, Any]) -> None:
    jsonschema.validate(skaffold, json.loads(Path(SCHEMA or "").read_text()))


def test_what_it_names_is_there(skaffold: dict[str, Any]) -> None:
    (release,) = skaffold["deploy"]["helm"]["releases"]
    (test,) = skaffold["verify"]
    kustomize = next(profile for profile in skaffold["profiles"] if profile["name"] == "kustomize")
    paths = [
        release["chartPath"],
        test["executionMode"]["kubernetesCluster"]["jobManifestPath"],
        *kustomize["manifests"]["kustomize"]["paths"],
    ]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    job = yaml.safe_load((ROOT / test["executionMode"]["kubernetesCluster"]["jobManifestPath"]).read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    # Skaffold clears command and arguments of the manifest where it is given none (skaffold#10073).
    assert {name: container[name] for name in ("name", "command", "args")} == {
        name: test["container"][name] for name in ("name", "command", "args")
    }


@pytest.mark.parametrize("profile", [None, "small", "pgbouncer"])
def test_its_values_are_values_of_the_chart(chart: helm.Chart, skaffold: dict[str, Any], profile: str | None) -> None:
    (release,) = skaffold["deploy"]["helm"]["releases"]
    values = dict(release["setValues"])
    for patch in next((known["patches"] for known in skaffold["profiles"] if known["name"] == profile), []):
        values[patch["path"].rpartition("/")[2]] = patch["value"]
    nested: dict[str, Any] = {"image": {"repository": "registry.example.com/stockroom", "tag": "abc-dirty"}}
    for path, value in values.items():
        *parts, last = path.split(".")
        part = nested
        for name in parts:
            part = part.setdefault(name, {})
        part[last] = value
    manifests = Manifests(chart.render(nested, name=release["name"], namespace="default"))
    (forwarded,) = skaffold["portForward"]
    assert forwarded["port"] in [port["port"] for port in manifests.get("Service", forwarded["resourceName"])["spec"]["ports"]]
