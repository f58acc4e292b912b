"""Production mode beside a database that is somebody else's: the hook migrates it, a PgBouncer can come in between, and both hold under load."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster.conftest import IMAGE, LOCUST_IMAGE
from tests.cluster.production import SECRET, Production
from tests.cluster.releases import NAME, READY_SECONDS, CommandError, Inside, nothing_was_lost, run, until
from tests.cluster.unharmed import next_version, unharmed

_BOUNCER: dict[str, Any] = {"pgbouncer": {"enabled": True, "poolSize": 5}}
_FAILS = {"migrations": {"backoffLimit": 0}}
_BROKEN = "raise SystemExit('this migration is broken')\n"


@pytest.fixture(scope="module")
def production(values: dict[str, Any], known_kinds: set[str]) -> Iterator[Production]:
    """Installed, with its role limited and its first administrator made, as the notes say."""
    release = Production(f"stockroom-test-{uuid4().hex[:6]}", values, IMAGE, LOCUST_IMAGE, custom_kinds="ServiceMonitor" in known_kinds)
    release.create_namespace()
    try:
        release.make_database()
        said = release.helm("install", None, "--wait", f"--timeout={READY_SECONDS}s")
        (limits,) = [line.strip() for line in said.splitlines() if line.strip().startswith("ALTER ROLE")]
        release.superuser(limits.replace("(Stockroom's role)", "shop"))
        release.create_admin()
        yield release
    finally:
        release.delete_namespace()


@pytest.fixture
def console(production: Production) -> Iterator[Inside]:
    with production.inside() as inside:
        yield inside


def test_the_hook_has_migrated_before_any_pod_and_the_plan_and_a_round_trip_hold(production: Production, console: Inside) -> None:
    assert production.get("jobs") == []
    for pod in production.pods("api"):
        (waited,) = pod["status"]["initContainerStatuses"]
        assert (waited["name"], waited["restartCount"]) == ("await-schema", 0)
    tested = run("helm", "test", NAME, "--namespace", production.namespace, "--logs", "--timeout=180s")
    assert "it fits" in tested
    assert "DELETE /api/v1/categories" in tested
    assert console.query("SELECT rolsuper FROM pg_roles WHERE rolname = 'shop'") == ["False"]


def test_upgrades_under_load_one_of_them_by_a_hook_that_migrates(production: Production) -> None:
    with production.inside() as console, unharmed(production, console):
        production.upgrade({"podAnnotations": {"upgrade": "1"}})
        before = production.revision()
        newer = next_version(production, console)
        production.upgrade({"podAnnotations": {"upgrade": "2"}, **newer})
        assert console.query("SELECT version_num FROM alembic_version") == ["9000"]
        production.rollback(before)
        until(production.are_ready, 90, "two pods are ready")


def test_a_migration_that_fails_ends_the_upgrade_before_any_pod_is_changed(production: Production, console: Inside) -> None:
    names = {pod["metadata"]["name"] for pod in production.pods("api")}
    broken = next_version(production, console, name="broken", content=_BROKEN)
    with pytest.raises(CommandError):
        production.upgrade({"podAnnotations": {"upgrade": "broken"}, **broken, **_FAILS})
    assert {pod["metadata"]["name"] for pod in production.pods("api")} == names
    assert "this migration is broken" in production.kubectl("logs", f"job/{NAME}-migrate")
    production.upgrade()


def test_upgrades_through_a_pgbouncer_fail_no_request(production: Production) -> None:
    production.upgrade(_BOUNCER)
    until(production.are_ready, 90, "two pods are ready")
    with production.inside() as console:
        bouncers = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in production.pods("pgbouncer")}
        clients = console.query("SELECT DISTINCT host(client_addr) FROM pg_stat_activity WHERE usename = 'shop'")
        assert set(clients) & set(bouncers.values())
        with unharmed(production, console):
            production.upgrade({**_BOUNCER, "podAnnotations": {"upgrade": "through"}})
            until(production.are_ready, 90, "two pods are ready")
        # They run on: one that ends takes the transactions with it that are open.
        assert bouncers.keys() == {pod["metadata"]["name"] for pod in production.pods("pgbouncer")}
        assert "it fits" in run("helm", "test", NAME, "--namespace", production.namespace, "--logs", "--timeout=180s")


def test_a_pgbouncer_that_goes_costs_open_transactions_and_no_acknowledged_write(production: Production, console: Inside) -> None:
    production.upgrade(_BOUNCER)
    before = console.levels()
    with console.load() as seen:
        for pod in production.pods("pgbouncer"):
            production.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=true")
            until(lambda: production.are_ready("pgbouncer"), 90, "two PgBouncers are ready")
        until(production.are_ready, 90, "two pods are ready")
    assert production.restarts() == 0
    assert seen.totals["sent"] > 50 * seen.totals["failed"], str(seen)
    assert nothing_was_lost([seen], before, console.levels())


def test_pods_that_migrate_need_no_hook_and_say_what_the_role_may_hold(production: Production) -> None:
    by_pods = {"migrations": {"by": "pods"}}
    assert "helm.sh/hook: pre-" not in production.helm("template", by_pods)
    production.upgrade(by_pods)
    until(production.are_ready, 90, "two pods are ready")
    limit = json.loads(production.kubectl("get", f"configmap/{NAME}", "--output=json"))["data"]["ROLE_CONNECTION_LIMIT"]
    for pod in production.pods("api"):
        log = production.kubectl("logs", pod["metadata"]["name"], "--container=migrate")
        # An ordinary role may not limit itself; what it may do depends on the version of PostgreSQL.
        assert f"CONNECTION LIMIT {limit}" in log or f"may hold {limit} connections" in log
    assert production.get("secret", f"--field-selector=metadata.name={NAME}") == []
    assert production.get("secret", f"--field-selector=metadata.name={SECRET}") != []
