"""Roll-outs under load: no request fails, and the database never holds more connections than the plan says."""

import os
from typing import Any

from tests.cluster.releases import NAME, Release, run, until
from tests.cluster.unharmed import next_version, unharmed

_UPGRADES = int(os.environ.get("UPGRADES", "10"))


def test_upgrades_under_load_fail_no_request_and_one_of_them_migrates(release: Release) -> None:
    with release.inside() as console, unharmed(release, console):
        before, newer = release.revision(), dict[str, Any]()
        for number in range(1, _UPGRADES + 1):
            if number == (_UPGRADES + 1) // 2:
                before, newer = release.revision(), next_version(release, console)
            release.upgrade({"podAnnotations": {"upgrade": str(number)}, **newer})
        assert console.query("SELECT version_num FROM alembic_version") == ["9000"]
        # The version before runs on the schema after.
        release.rollback(before)
        assert console.query("SELECT version_num FROM alembic_version") == ["9000"]
        until(release.are_ready, 90, "two pods are ready")


def test_a_pod_that_is_deleted_under_load_fails_no_request(release: Release) -> None:
    with release.inside() as console, unharmed(release, console):
        for pod in release.pods("api"):
            release.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=true")
            until(release.are_ready, 90, "two pods are ready")


def test_a_node_that_is_drained_under_load_fails_no_request(release: Release, two_nodes: list[str]) -> None:
    node = next(node for node in two_nodes if node != release.node_of_database())
    assert any(pod["spec"]["nodeName"] == node for pod in release.pods("api"))
    with release.inside() as console:
        try:
            with unharmed(release, console):
                # Not the cluster's own pods: a name server without a second one is no fault of ours.
                selector = f"--pod-selector=app.kubernetes.io/instance={NAME}"
                run("kubectl", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", selector, "--timeout=180s")
                until(release.are_ready, 90, "two pods are ready")
                assert all(pod["spec"]["nodeName"] != node for pod in release.pods("api"))
        finally:
            run("kubectl", "uncordon", node)
