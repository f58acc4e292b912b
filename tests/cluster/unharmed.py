"""Load at a release while something is done to it, and what of it must not be seen from outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.releases import Inside, Release, nothing_was_lost

_MIGRATION = '''"""What a later version might do."""

from alembic import op

revision = "9000"
down_revision = HEAD
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


@contextmanager
def unharmed(release: Release, console: Inside) -> Iterator[None]:
    """Locust and clients that count their writes, all with connections that they keep: no request may fail, no write be lost, no connection be unplanned."""
    planned = console.metric("stockroom_planned_peak_connections")
    before = console.levels()
    with release.locust(clients=16, rate=32) as by_locust, console.load(clients=16, rate=16) as by_us:
        yield
    print(f"planned peak {planned:.0f}")  # noqa: T201 - for `pytest -s`
    assert by_locust.failures == by_us.failures == [], f"{by_locust}\n{by_us}"
    assert by_locust.totals["sent"] > by_us.totals["sent"] > 0
    assert by_us.totals["asked_to_leave"] > 0
    assert 0 < by_us.totals["peak_connections"] <= planned, str(by_us)
    assert nothing_was_lost([by_us], before, console.levels())


def next_version(release: Release, console: Inside, *, name: str = "next", content: str = _MIGRATION) -> dict[str, Any]:
    """Values that give every pod one migration more than the image has."""
    folder, head = console.exec(
        "python", "-c", "from app.core import migrations; print(migrations.folder() / 'versions'); print(migrations.head())"
    ).split()
    file = "9000_a_later_version.py"
    release.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {file: content.replace("HEAD", repr(head))}}
    )
    return {
        "extraVolumes": [{"name": name, "configMap": {"name": name}}],
        "extraVolumeMounts": [{"name": name, "mountPath": f"{folder}/{file}", "subPath": file, "readOnly": True}],
    }
