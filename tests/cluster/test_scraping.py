"""A Prometheus on the cluster finds the pods by their annotations, and the chart's rules read what it scrapes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.cluster.conftest import PROMETHEUS_IMAGE
from tests.cluster.releases import RESTRICTED, Inside, Release, until

_BY_ANNOTATIONS: dict[str, Any] = {"scrapeAnnotations": {"enabled": True}}
_META = "__meta_kubernetes_"
_PORT = 9090


@pytest.mark.skipif(not PROMETHEUS_IMAGE, reason="PROMETHEUS_IMAGE names no image of Prometheus that the nodes have")
def test_prometheus_finds_api_and_job_workers_by_their_annotations_and_the_rules_read_them(release: Release, console: Inside) -> None:
    release.upgrade(_BY_ANNOTATIONS)
    until(release.are_ready, 90, "two pods are ready")
    api, workers = ({pod["metadata"]["name"] for pod in release.pods(component)} for component in ("api", "worker"))
    with prometheus(release, console) as scraped, console.load():
        until(lambda: scraped.by_pod("up") == dict.fromkeys(api | workers, 1.0), 60, "each pod is scraped, on the port that is its own")
        until(lambda: scraped.by_pod('stockroom_build_info{component="api"}').keys() == api, 30, "the api's pods tell their version")
        until(lambda: scraped.by_pod('stockroom_build_info{component="worker"}').keys() == workers, 30, "the job workers do")
        requests = 'sum by (pod) (rate(stockroom_http_request_duration_seconds_count{route!~"/livez|/healthz|/metrics"}[30s])) > 0'
        until(lambda: scraped.by_pod(requests).keys() == api, 60, "both of the api's pods have answered requests")
        connected = "max(sum by (instance) (stockroom_postgres_connections)) <= max(stockroom_planned_peak_connections)"
        assert scraped.query(connected) != []
        assert scraped.query("max(stockroom_job_workers)") == [len(workers)]
        until(lambda: scraped.query("stockroom:http_requests:rate5m") != [], 60, "the recorded rate of requests has a value")
        rules = scraped.rules()
        assert {rule["health"] for rule in rules} == {"ok"}
        assert [rule["name"] for rule in rules if rule.get("state", "inactive") != "inactive"] == []


class Scraped:
    """A Prometheus, asked from a pod beside it."""

    def __init__(self, console: Inside, address: str) -> None:
        self._console = console
        self._host = f"{address}:{_PORT}"

    def query(self, expression: str) -> list[float]:
        """The values of an instant query."""
        return [float(series["value"][1]) for series in self._series(expression)]

    def by_pod(self, expression: str) -> dict[str, float]:
        """The same by the label `pod`."""
        return {series["metric"]["pod"]: float(series["value"][1]) for series in self._series(expression)}

    def rules(self) -> list[dict[str, Any]]:
        """All rules, with their health."""
        return [rule for group in self._asked("rules")["groups"] for rule in group["rules"]]

    def _series(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._asked(f"query?query={quote(expression)}")["result"]
        return found

    def _asked(self, what: str) -> dict[str, Any]:
        status, body = self._console.get(f"/api/v1/{what}", self._host)
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)["data"]
        return found


@contextmanager
def prometheus(release: Release, console: Inside) -> Iterator[Scraped]:
    """A Prometheus with the chart's rules that looks for annotated pods in the release's namespace, as the usual configurations do."""
    rendered = release.helm("template", {"prometheusRule": {"enabled": True}}, "--show-only=templates/prometheusrule.yaml")
    settings = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": ["/etc/prometheus/rules.yml"],
        "scrape_configs": [
            {
                "job_name": "kubernetes-pods",
                "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [release.namespace]}}],
                "relabel_configs": [
                    {"source_labels": [f"{_META}pod_annotation_prometheus_io_scrape"], "action": "keep", "regex": "true"},
                    {"source_labels": [f"{_META}pod_phase"], "action": "keep", "regex": "Running"},
                    {"source_labels": [f"{_META}pod_annotation_prometheus_io_path"], "target_label": "__metrics_path__", "regex": "(.+)"},
                    # Every container of a pod becomes the same target, init containers too.
                    {
                        "source_labels": [f"{_META}pod_ip", f"{_META}pod_annotation_prometheus_io_port"],
                        "target_label": "__address__",
                        "separator": ":",
                    },
                    {"source_labels": [f"{_META}namespace"], "target_label": "namespace"},
                    {"source_labels": [f"{_META}pod_name"], "target_label": "pod"},
                ],
            }
        ],
    }
    name = {"name": "prometheus"}
    files = {"prometheus.yml": yaml.safe_dump(settings), "rules.yml": yaml.safe_dump(yaml.safe_load(rendered)["spec"])}
    rights = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    account = {"kind": "ServiceAccount", "name": "prometheus", "namespace": release.namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "prometheus"}
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": name, "rules": [rights]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": name, "subjects": [account], "roleRef": role},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": files},
        {"apiVersion": "v1", "kind": "Pod", "metadata": name, "spec": _pod()},
    ]
    release.apply(*objects)
    try:
        release.kubectl("wait", "--for=condition=Ready", "pod/prometheus", "--timeout=60s")
        (pod,) = release.get("pods", "--field-selector=metadata.name=prometheus")
        yield Scraped(console, pod["status"]["podIP"])
    finally:
        release.kubectl("delete", "pod/prometheus", "--now", "--wait=true")
        release.kubectl("delete", *(f"{each['kind'].lower()}/prometheus" for each in objects if each["kind"] != "Pod"))


def _pod() -> dict[str, Any]:
    return {
        "serviceAccountName": "prometheus",
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsUser": 65534, "runAsGroup": 65534},
        "containers": [
            {
                "name": "prometheus",
                "image": PROMETHEUS_IMAGE,
                "command": ["/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data"],
                "ports": [{"containerPort": _PORT}],
                "readinessProbe": {"httpGet": {"path": "/-/ready", "port": _PORT}, "periodSeconds": 1},
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                "securityContext": RESTRICTED,
                "volumeMounts": [{"name": "settings", "mountPath": "/etc/prometheus"}, {"name": "data", "mountPath": "/data"}],
            }
        ],
        "volumes": [{"name": "settings", "configMap": {"name": "prometheus"}}, {"name": "data", "emptyDir": {}}],
    }
