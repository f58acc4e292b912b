"""`k8s/` is what the chart renders, and what kustomize makes of it is the chart's again."""

import os
import subprocess
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from app.core.config import parse_signing_keys
from tests.chart.manifests import Manifests, Object
from tests.chart.plain import ROOT, SECRET, VALUES, plain_manifests

K8S = ROOT / "k8s"


def test_the_files_are_those_that_the_chart_renders(chart: helm.Chart) -> None:
    rendered = plain_manifests(chart)
    there = {str(file.relative_to(K8S)) for part in ("base", "overlays", "load-test") for file in (K8S / part).rglob("*") if file.is_file()}
    assert there == set(rendered), "run `make k8s`"
    assert [path for path, text in rendered.items() if (K8S / path).read_text() != text] == [], "run `make k8s`"


def test_each_can_be_applied_twice() -> None:
    for file in chain(K8S.rglob("base/*.yaml"), K8S.rglob("overlays/*/*.yaml")):
        content = yaml.safe_load(file.read_text())
        kinds = {content["kind"]} if isinstance(content, dict) else set()
        # A Job cannot be changed, and a generated name is another object each time.
        assert not kinds & {"Job", "Pod", "Secret"}, file
        assert "generateName" not in file.read_text()


@pytest.mark.parametrize("overlay", VALUES)
def test_base_and_overlay_together_are_the_rendered_objects(chart: helm.Chart, overlay: str) -> None:
    wanted = {
        (found["kind"], found["metadata"]["name"]): found["spec"]
        for found in Manifests(chart.render(VALUES[overlay], name="stockroom", namespace="default"))
        if "spec" in found and "helm.sh/hook" not in found["metadata"].get("annotations", {})
    }
    for spec in wanted.values():
        spec.get("template", {}).get("metadata", {}).pop("annotations", None)
    built = {(found["kind"], found["metadata"]["name"]): found["spec"] for found in _built(K8S / "overlays" / overlay) if "spec" in found}
    assert built == wanted


@pytest.mark.parametrize("overlay", VALUES)
def test_they_are_valid_and_name_one_secret(overlay: str) -> None:
    for found in _built(K8S / "overlays" / overlay):
        kubernetes_validate.validate(found, "1.30", strict=True)
        assert set(_values_of(found, "secretKeyRef", "name")) <= {SECRET}


def test_the_script_makes_a_secret_with_every_key_that_an_evaluation_reads(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        '#!/bin/sh\nfor argument; do case $argument in --from-file=*) cp -r "${argument#--from-file=}" "$MADE";; esac; done\n'
    )
    kubectl.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "KUBECTL": str(kubectl), "MADE": str(tmp_path / "made")}
    subprocess.run(["sh", str(K8S / "make-secrets.sh"), "--dry-run"], env=environment, check=True)
    made = {file.name: file.read_text() for file in (tmp_path / "made").iterdir()}
    read = {key for found in _built(K8S / "overlays" / "evaluation") for key in _values_of(found, "secretKeyRef", "key")}
    assert set(made) == read
    assert len(parse_signing_keys(made["signing-keys"])) == 1
    assert made["database-url"] == f"postgresql://stockroom:{made['database-password']}@stockroom-postgres:5432/stockroom"


def _built(folder: Path) -> list[Object]:
    """What kustomize makes of the overlay, without the ConfigMap that it generates."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found: list[Object] = []
    for resource in kustomization["resources"]:
        path = folder / resource
        found += _built(path) if path.is_dir() else [yaml.safe_load(path.read_text())]
    for patch in kustomization.get("patches", []):
        (target,) = (item for item in found if {"kind": item["kind"], "name": item["metadata"]["name"]} == patch["target"])
        for operation in yaml.safe_load((folder / patch["path"]).read_text()):
            *path, last = operation["path"].removeprefix("/").split("/")
            place = reduce(lambda part, name: part[name], path, target)
            if operation["op"] == "remove":
                del place[last]
            else:
                place[last] = operation["value"]
    return found


def _values_of(part: Any, parent: str, name: str) -> Any:
    if isinstance(part, dict):
        for key, inner in part.items():
            if key == parent:
                yield inner[name]
            yield from _values_of(inner, parent, name)
    elif isinstance(part, list):
        for inner in part:
            yield from _values_of(inner, parent, name)
