import json
from typing import Any

import pytest

from tests.cluster.releases import NAME, CommandError, Inside, Release, run, until

# What Kubernetes puts into a namespace by itself.
_NOT_OURS = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}


def test_helm_install_is_ready_within_a_minute(installed: tuple[Release, float]) -> None:
    _, seconds = installed
    assert seconds <= 60


def test_helm_test_passes(release: Release) -> None:
    assert "Succeeded" in run("helm", "test", NAME, "--namespace", release.namespace, "--timeout=180s")


def test_probes_and_metrics_answer_in_every_pod(release: Release, console: Inside) -> None:
    pods = release.pods("api")
    assert len(pods) == 2
    for pod in pods:
        host = f"{pod['status']['podIP']}:8000"
        assert console.get("/livez", host)[0] == 200
        status, body = console.get("/healthz", host)
        assert (status, set(json.loads(body)["checks"].values())) == (200, {"ok"})
        assert console.metric("stockroom_planned_peak_connections", host) > 0


def test_the_plan_of_the_pods_is_the_charts(release: Release, console: Inside) -> None:
    (pod, *_) = release.pods("api")
    checked = release.kubectl("exec", pod["metadata"]["name"], "--container=api", "--", "stockroom", "capacity", "check")
    (role,) = [line.split()[2] for line in checked.splitlines() if line.startswith("role's connections")]
    assert checked.splitlines()[-1] == "it fits"
    # The chart's own arithmetic has limited the role.
    assert console.query("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'stockroom'") == [role]


def test_a_pod_has_no_token_and_cannot_write_to_its_root(release: Release) -> None:
    (pod, *_) = release.pods("api")
    found = release.kubectl(
        "exec",
        pod["metadata"]["name"],
        "--container=api",
        "--",
        "python",
        "-c",
        "import os; print(os.getuid(), os.path.exists('/var/run/secrets/kubernetes.io'), os.access('/srv', os.W_OK), os.access('/tmp', os.W_OK))",
    )
    assert found.split() == ["65532", "False", "False", "True"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"replicas": 60}, "REFUSED"),
        ({"mode": "production"}, "existingSecret"),
        ({"terminationGracePeriodSeconds": 10}, "terminationGracePeriodSeconds"),
        ({"replicaz": 3}, "replicaz"),
    ],
)
def test_wrong_values_are_refused_and_leave_nothing(empty_namespace: Release, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        empty_namespace.helm("install", wrong)
    assert _objects(empty_namespace) == _NOT_OURS


def test_uninstall_leaves_nothing(empty_namespace: Release) -> None:
    empty_namespace.install()
    assert _objects(empty_namespace) > _NOT_OURS
    run("helm", "uninstall", NAME, "--namespace", empty_namespace.namespace, "--wait", "--timeout=120s")
    until(lambda: _objects(empty_namespace) == _NOT_OURS, 90, "nothing is left")


def _objects(release: Release) -> set[str]:
    """Everything in the namespace except what only tells of others (events, metrics) or follows them (endpoints)."""
    kinds = release.kubectl("api-resources", "--namespaced", "--verbs=list,delete", "--output=name").split()
    told = {"events", "events.events.k8s.io", "pods.metrics.k8s.io"}
    found = json.loads(release.kubectl("get", ",".join(kind for kind in kinds if kind not in told), "--output=json"))["items"]
    return {f"{each['kind']}/{each['metadata']['name']}" for each in found}
