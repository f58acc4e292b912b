"""Roll-outs under load: no request fails, and the database never holds more connections than the plan says."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.releases import NAME, Inside, Release, Seen, nothing_was_lost, run, until

_UPGRADES = int(os.environ.get("UPGRADES", "10"))
_MIGRATION = '''"""What a later version might do."""

from alembic import op

revision = "9000"
down_revision = {head!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE variant ADD COLUMN tried text")
    op.execute("ALTER TABLE product ADD COLUMN tried text")
    op.execute("CREATE TABLE tried (id integer PRIMARY KEY)")


def downgrade() -> None:
    op.execute("DROP TABLE tried")
    op.execute("ALTER TABLE product DROP COLUMN tried")
    op.execute("ALTER TABLE variant DROP COLUMN tried")
'''


def test_upgrades_under_load_fail_no_request_and_one_of_them_migrates(release: Release) -> None:
    with release.inside() as console, _unharmed(console):
        before, newer = release.revision(), dict[str, Any]()
        for number in range(1, _UPGRADES + 1):
            if number == (_UPGRADES + 1) // 2:
                before, newer = release.revision(), _next_version(release, console)
            release.upgrade({"podAnnotations": {"upgrade": str(number)}, **newer})
        assert console.query("SELECT version_num FROM alembic_version") == ["9000"]
        # The version before runs on the schema after.
        release.rollback(before)
        assert console.query("SELECT version_num FROM alembic_version") == ["9000"]
        until(release.are_ready, 90, "two pods are ready")


def test_a_pod_that_is_deleted_under_load_fails_no_request(release: Release) -> None:
    with release.inside() as console, _unharmed(console):
        for pod in release.pods("api"):
            release.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=true")
            until(release.are_ready, 90, "two pods are ready")


def test_a_node_that_is_drained_under_load_fails_no_request(release: Release, two_nodes: list[str]) -> None:
    node = next(node for node in two_nodes if node != release.node_of_database())
    assert any(pod["spec"]["nodeName"] == node for pod in release.pods("api"))
    with release.inside() as console:
        try:
            with _unharmed(console):
                # Not the cluster's own pods: a name server without a second one is no fault of ours.
                selector = f"--pod-selector=app.kubernetes.io/instance={NAME}"
                run("kubectl", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", selector, "--timeout=180s")
                until(release.are_ready, 90, "two pods are ready")
                assert all(pod["spec"]["nodeName"] != node for pod in release.pods("api"))
        finally:
            run("kubectl", "uncordon", node)


@contextmanager
def _unharmed(console: Inside) -> Iterator[Seen]:
    """Load, of which no request may fail, no write be lost, and no connection be more than was planned."""
    planned = console.metric("stockroom_planned_peak_connections")
    before = console.levels()
    with console.load() as seen:
        yield seen
    print(f"planned peak {planned:.0f}")  # noqa: T201 - for `pytest -s`
    assert seen.failures == [], str(seen)
    assert seen.totals["asked_to_leave"] > 0
    assert 0 < seen.totals["peak_connections"] <= planned, str(seen)
    assert nothing_was_lost([seen], before, console.levels())


def _next_version(release: Release, console: Inside) -> dict[str, Any]:
    """Values that give every pod one migration more than the image has."""
    folder, head = console.exec(
        "python", "-c", "from app.core import migrations; print(migrations.folder() / 'versions'); print(migrations.head())"
    ).split()
    file = "9000_a_later_version.py"
    release.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "next"}, "data": {file: _MIGRATION.format(head=head)}})
    return {
        "extraVolumes": [{"name": "next", "configMap": {"name": "next"}}],
        "extraVolumeMounts": [{"name": "next", "mountPath": f"{folder}/{file}", "subPath": file, "readOnly": True}],
    }
