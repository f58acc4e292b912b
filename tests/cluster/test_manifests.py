"""`k8s/` as its own comments say to use it: made ready once, applied twice, and the load test beside it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster.conftest import IMAGE, LOCUST_IMAGE
from tests.cluster.production import Production
from tests.cluster.releases import CHART, NAME, Release, run, until

K8S = CHART.parents[1] / "k8s"


@pytest.fixture
def somewhere(values: dict[str, Any]) -> Iterator[Release]:
    release = Release(f"stockroom-test-{uuid4().hex[:6]}", values, IMAGE, LOCUST_IMAGE)
    release.create_namespace()
    yield release
    release.delete_namespace()


@pytest.fixture
def outside(values: dict[str, Any]) -> Iterator[Production]:
    release = Production(f"stockroom-test-{uuid4().hex[:6]}", values, IMAGE, LOCUST_IMAGE, custom_kinds=False)
    release.create_namespace()
    yield release
    release.delete_namespace()


def test_the_evaluation_is_applied_twice_and_its_load_test_passes(somewhere: Release, tmp_path: Path) -> None:
    kubectl = f"kubectl --namespace {somewhere.namespace}"
    for _ in range(2):
        run("env", f"KUBECTL={kubectl}", "sh", str(K8S / "make-secrets.sh"))
    _apply_twice(somewhere, tmp_path, "overlays/evaluation", "load-test")
    somewhere.kubectl("create", "--filename=-", given=_built(somewhere, tmp_path / "job", "load-test/load-test-job.yaml"))
    try:
        somewhere.kubectl("wait", "--for=condition=Complete", f"job/{NAME}-load-test", "--timeout=180s")
    finally:
        print(somewhere.kubectl("logs", f"job/{NAME}-load-test"))  # noqa: T201 - what `pytest -s` and a failure show


def test_production_is_applied_twice_beside_a_database_of_yours(outside: Production, tmp_path: Path) -> None:
    outside.make_database(secret=NAME)
    _apply_twice(outside, tmp_path, "overlays/production")
    for pod in outside.pods("api"):
        log = outside.kubectl("logs", pod["metadata"]["name"], "--container=migrate")
        assert "CONNECTION LIMIT" in log or "connections" in log
        assert outside.kubectl("exec", pod["metadata"]["name"], "--container=api", "--", "stockroom", "capacity", "check").endswith(
            "it fits\n"
        )


def _apply_twice(release: Release, folder: Path, *parts: str) -> None:
    applied = _built(release, folder / "all", *parts)
    release.kubectl("apply", "--filename=-", given=applied)
    for name in (NAME, f"{NAME}-worker"):
        release.kubectl("rollout", "status", f"deployment/{name}", "--timeout=180s")
    until(release.are_ready, 90, "two pods are ready")
    before = _generations(release)
    release.kubectl("apply", "--filename=-", given=applied)
    # It exits with 1 where anything differs. What apply itself says is no sign: kubectl calls every PodDisruptionBudget configured.
    release.kubectl("diff", "--filename=-", given=applied)
    assert _generations(release) == before


def _generations(release: Release) -> str:
    """Counted by Kubernetes whenever what is wanted of an object changes."""
    return release.kubectl("get", "deployments,statefulsets", "--output=jsonpath={.items[*].metadata.generation}")


def _built(release: Release, folder: Path, *parts: str) -> str:
    """What kustomize makes of parts of `k8s/` with the images that the nodes have, as an overlay of a user's own would."""
    folder.mkdir()
    postgres = release.values.get("evaluation", {}).get("postgres", {}).get("image", {})
    images = {"stockroom": release.values["image"], "postgres": postgres}
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(K8S / part, folder.resolve()) for part in parts],
        "images": [{"name": name, "newName": to["repository"], "newTag": to["tag"]} for name, to in images.items() if to],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(content), encoding="utf-8")
    return run("kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", str(folder))
