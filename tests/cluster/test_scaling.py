import pytest

from tests.cluster.releases import NAME, CommandError, Inside, Release, is_ready, until

_SCALED = {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 4, "cpuUtilization": 20}}


@pytest.mark.usefixtures("pod_metrics")
def test_the_autoscaler_adds_pods_under_load_and_the_plan_still_holds(release: Release, console: Inside) -> None:
    try:
        release.upgrade(_SCALED)
        planned = console.metric("stockroom_planned_peak_connections")
        with console.load(clients=16, rate=0) as seen:
            seconds = until(lambda: sum(is_ready(pod) for pod in release.pods("api")) >= 4, 240, "four pods are ready")
            print(f"four pods after {seconds:.0f} s")  # noqa: T201 - for `pytest -s`
            # An upgrade at full scale is the worst moment, and it does not reset the number of pods.
            release.upgrade({**_SCALED, "podAnnotations": {"at": "full-scale"}})
            assert len(release.pods("api")) >= 4
        print(f"planned peak {planned:.0f}")  # noqa: T201 - for `pytest -s`
        assert 0 < seen.totals["peak_connections"] <= planned, str(seen)
        assert seen.failures == [], str(seen)
    finally:
        # To turn it off again, as docs/operations/scale.md says.
        _back_to_two_pods(release)


def test_what_kubectl_has_scaled_an_upgrade_changes_only_when_told_to(release: Release) -> None:
    release.kubectl("scale", f"deployment/{NAME}", "--replicas=3")
    try:
        until(lambda: release.are_ready("api", 3), 90, "three pods are ready")
        with pytest.raises(CommandError, match=r"\.spec\.replicas"):
            release.upgrade()
        assert len(release.pods("api")) == 3
    finally:
        _back_to_two_pods(release)
    # Helm has the number again.
    release.upgrade()


def _back_to_two_pods(release: Release) -> None:
    release.upgrade(None, "--force-conflicts")
    until(lambda: release.are_ready() and len(release.pods("api")) == 2, 90, "two pods are ready, and the others gone")
