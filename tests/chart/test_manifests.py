"""Whatever the options: what is rendered is valid for every Kubernetes that is maintained, and allowed where the strictest rules are enforced."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
from kubernetes_validate import utils as kubernetes_schemas

from tests.chart.conftest import Render
from tests.chart.manifests import Manifests, Object, containers
from tests.chart.options import OPTIONS

KUBERNETES = [f"1.{minor}" for minor in range(30, 38)]
CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute", "Cluster", "Pooler"}
"""What operators define: the trials on a cluster hold these against the definitions."""

ALLOWED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


@pytest.fixture(scope="module")
def everything(render: Render) -> dict[str, Manifests]:
    return {name: render(values) for name, values in OPTIONS.items()}


@pytest.fixture(autouse=True, scope="module")
def _schemas_are_read_once() -> None:
    kubernetes_schemas.schema_contents = cache(kubernetes_schemas.schema_contents)


@pytest.mark.parametrize("version", KUBERNETES)
def test_everything_is_valid_for_kubernetes(everything: dict[str, Manifests], version: str) -> None:
    assert version in {kubernetes_schemas.major_minor(known) for known in kubernetes_schemas.all_versions()}
    # Most objects are the same whatever the option.
    objects = {json.dumps(found, sort_keys=True) for found in chain.from_iterable(everything.values())}
    for text in objects:
        found = json.loads(text)
        if found["kind"] not in CUSTOM:
            assert kubernetes_validate.validate(found, version, strict=True) == version


def test_the_options_show_everything_that_the_chart_can_make(everything: dict[str, Manifests]) -> None:
    assert set().union(*(manifests.kinds() for manifests in everything.values())) == CUSTOM | {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "Job", "NetworkPolicy", "Pod", "PodDisruptionBudget", "Secret", "Service",
        "ServiceAccount", "StatefulSet",
    }  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_helm_has_nothing_to_complain_of(chart_folder: Any, option: str) -> None:
    report = helm.lint(chart_folder, OPTIONS[option], strict=True)
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("option", OPTIONS)
def test_pods_keep_the_restricted_pod_security_standard(everything: dict[str, Manifests], option: str) -> None:
    pods = dict(everything[option].pods())
    assert pods
    for name, pod in pods.items():
        assert list(restricted_violations(pod)) == [], name


def restricted_violations(pod: Object) -> Iterator[str]:
    """What the `restricted` Pod Security Standard forbids (Kubernetes documentation, "Pod Security Standards")."""
    spec = pod["spec"]
    yield from (field for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field))
    yield from (f"volume {volume}" for volume in spec.get("volumes", []) if not set(volume) - {"name"} <= ALLOWED_VOLUMES)
    for container in containers(pod):
        context = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
        added = set(context["capabilities"].get("add", []))
        allowed = {
            "escalation": context.get("allowPrivilegeEscalation") is False and not context.get("privileged"),
            "capabilities": context["capabilities"].get("drop") == ["ALL"] and added <= {"NET_BIND_SERVICE"},
            "root": context.get("runAsNonRoot") is True and context.get("runAsUser") != 0,
            "seccomp": context.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
            "host ports": not any("hostPort" in port for port in container.get("ports", [])),
        }
        yield from (f"{container['name']}: {rule}" for rule, kept in allowed.items() if not kept)


@pytest.mark.parametrize("option", OPTIONS)
def test_pods_have_no_token_no_writable_root_and_what_a_quota_asks_for(everything: dict[str, Manifests], option: str) -> None:
    for name, pod in everything[option].pods():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["enableServiceLinks"] is False, name
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert container["resources"]["requests"]["cpu"], name
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            claims = {"data"} if name.startswith("StatefulSet") else set()
            assert mounts <= {volume["name"] for volume in pod["spec"]["volumes"]} | claims, name
    for account in (found for found in everything[option] if found["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("option", OPTIONS)
def test_selectors_hold_only_what_never_changes_and_pick_each_component_alone(everything: dict[str, Manifests], option: str) -> None:
    selectors: dict[str, dict[str, str]] = {}
    for found in everything[option]:
        if found["kind"] in {"Deployment", "StatefulSet"}:
            selector = found["spec"]["selector"]["matchLabels"]
            assert set(selector) == {f"app.kubernetes.io/{part}" for part in ("name", "instance", "component")}
            assert selector.items() <= found["spec"]["template"]["metadata"]["labels"].items()
            selectors[found["metadata"]["name"]] = selector
    assert len({json.dumps(selector) for selector in selectors.values()}) == len(selectors)


@pytest.mark.parametrize("option", OPTIONS)
def test_what_is_referred_to_is_there_or_the_users(everything: dict[str, Manifests], option: str) -> None:
    manifests, values = everything[option], OPTIONS[option]
    theirs = {values.get("existingSecret"), "stockroom-db-app", "certificates"}
    for name, pod in manifests.pods():
        for container in containers(pod):
            for source in container.get("envFrom", []):
                assert ("ConfigMap", source["configMapRef"]["name"]) in manifests, name
            for entry in container.get("env", []):
                if reference := entry.get("valueFrom", {}).get("secretKeyRef"):
                    if reference["name"] in theirs:
                        continue
                    assert reference["key"] in manifests.get("Secret", reference["name"])["data"], name
        account = pod["spec"].get("serviceAccountName", "default")
        assert account == "default" or ("ServiceAccount", account) in manifests, name
