"""What dies comes back by itself, and takes no acknowledged write with it."""

import time

from tests.cluster.releases import NAME, Inside, Release, is_ready, nothing_was_lost, until

_KILL_A_CHILD = "import os, pathlib, signal\nos.kill(int(pathlib.Path('/proc/1/task/1/children').read_text().split()[0]), signal.SIGKILL)"


def test_a_worker_process_that_is_killed_is_replaced_in_its_pod(release: Release, console: Inside) -> None:
    before = console.levels()
    with console.load() as seen:
        for pod in release.pods("api"):
            release.kubectl("exec", pod["metadata"]["name"], "--container=api", "--", "python", "-c", _KILL_A_CHILD)
            # Longer than readiness takes to notice.
            time.sleep(8)
            until(release.are_ready, 60, "two pods are ready")
    assert release.restarts() == 0
    assert seen.totals["sent"] > 10 * seen.totals["failed"], str(seen)
    assert nothing_was_lost([seen], before, console.levels()), str(seen)


def test_when_all_pods_vanish_at_once_others_come_and_no_acknowledged_write_is_lost(release: Release, console: Inside) -> None:
    before = console.levels()
    gone = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in [*release.pods("api"), *release.pods("worker")]}
    with console.load() as seen:
        time.sleep(3)
        release.kubectl("delete", "pod", *gone, "--force", "--grace-period=0")
        # The API server forgets a pod at once; its processes live until the kubelet has seen that.
        until(lambda: not any(console.reaches(f"{address}:8000") for address in gone.values()), 90, "they are gone from their nodes")
        until(release.are_ready, 60, "two pods are ready")
        until(lambda: release.are_ready("worker", 1), 60, "a worker is ready")
        time.sleep(3)
    assert not gone.keys() & {pod["metadata"]["name"] for pod in [*release.pods("api"), *release.pods("worker")]}
    assert nothing_was_lost([seen], before, console.levels()), str(seen)


def test_a_restart_of_postgresql_loses_no_acknowledged_write_and_restarts_nobody(release: Release) -> None:
    with release.inside() as console:
        before = console.levels()
        with console.load() as seen:
            release.kubectl("delete", "pod", f"{NAME}-postgres-0", "--wait=true")
            until(lambda: release.are_ready("postgres", 1), 90, "PostgreSQL is ready")
            until(release.are_ready, 60, "two pods are ready")
            time.sleep(5)
        assert release.restarts() == 0
        assert nothing_was_lost([seen], before, console.levels()), str(seen)


def test_postgresql_that_is_killed_loses_no_acknowledged_write_and_restarts_nobody(release: Release) -> None:
    with release.inside() as console:
        before = console.levels()
        with console.load() as seen:
            release.kubectl("delete", "pod", f"{NAME}-postgres-0", "--force", "--grace-period=0")
            until(lambda: release.are_ready("postgres", 1), 90, "PostgreSQL is ready")
            until(release.are_ready, 60, "two pods are ready")
            time.sleep(5)
        assert release.restarts() == 0
        assert nothing_was_lost([seen], before, console.levels()), str(seen)


def test_an_outage_of_the_database_makes_pods_unready_and_restarts_nobody(release: Release, console: Inside) -> None:
    outage_seconds = 80  # longer than a liveness probe that asks the database would bear
    addresses = [f"{pod['status']['podIP']}:8000" for pod in release.pods("api")]
    release.kubectl("scale", f"statefulset/{NAME}-postgres", "--replicas=0")
    began = time.monotonic()
    until(lambda: not any(is_ready(pod) for pod in release.pods("api")), 60, "no pod is ready")
    while time.monotonic() - began < outage_seconds:
        assert [console.get("/livez", address)[0] for address in addresses] == [200, 200]
        assert [console.get("/healthz", address)[0] for address in addresses] == [503, 503]
        time.sleep(5)
    release.kubectl("scale", f"statefulset/{NAME}-postgres", "--replicas=1")
    until(release.are_ready, 90, "two pods are ready")
    assert [f"{pod['status']['podIP']}:8000" for pod in release.pods("api")] == addresses
    assert release.restarts() == 0
