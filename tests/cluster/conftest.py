"""A cluster, a release on it, and what to do when they are missing. Run by `make test-cluster`, never by `make test`."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster.releases import CommandError, Inside, Release, nodes, run, until

IMAGE = os.environ.get("STOCKROOM_IMAGE", "")
LOCUST_IMAGE = os.environ.get("LOCUST_IMAGE", "")
_POSTGRES_IMAGE = os.environ.get("POSTGRES_IMAGE", "")
_PGBOUNCER_IMAGE = os.environ.get("PGBOUNCER_IMAGE", "")
PROMETHEUS_IMAGE = os.environ.get("PROMETHEUS_IMAGE", "")


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    if missing := _missing():
        pytest.exit("the tests on a cluster cannot run:\n  - " + "\n  - ".join(missing), returncode=2)


def _missing() -> list[str]:
    missing = [f"{program} is not on the PATH" for program in ("kubectl", "helm") if shutil.which(program) is None]
    if not (IMAGE and LOCUST_IMAGE):
        missing.append(
            "which images? build them, the second with Locust, bring them to the nodes, then name them:\n"
            "      docker build --tag stockroom:dev .\n"
            "      docker build --tag stockroom-locust:dev --build-arg REQUIREMENTS=locust.txt .\n"
            "      kind load docker-image stockroom:dev stockroom-locust:dev\n"
            "      make test-cluster IMAGE=stockroom:dev LOCUST_IMAGE=stockroom-locust:dev"
        )
    if shutil.which("kubectl") is not None:
        asked = subprocess.run(["kubectl", "get", "--raw", "/readyz", "--request-timeout=10s"], capture_output=True, text=True, check=False)
        if asked.returncode:
            missing.append(f"no cluster answers (KUBECONFIG): {asked.stderr.strip().splitlines()[-1]}")
    return missing


@pytest.fixture(scope="session")
def values() -> dict[str, Any]:
    """The images that the nodes have."""
    given: dict[str, Any] = {"image": _parts(IMAGE)}
    if _POSTGRES_IMAGE:
        given["evaluation"] = {"postgres": {"image": _parts(_POSTGRES_IMAGE)}}
    if _PGBOUNCER_IMAGE:
        given["pgbouncer"] = {"image": _parts(_PGBOUNCER_IMAGE)}
    return given


@pytest.fixture(scope="session")
def known_kinds() -> set[str]:
    """What the API server knows, of Kubernetes and of operators."""
    return {line.split()[-1] for line in run("kubectl", "api-resources", "--no-headers").splitlines()}


@pytest.fixture
def empty_namespace(values: dict[str, Any]) -> Iterator[Release]:
    """A namespace in which nothing is installed."""
    release = Release(f"stockroom-test-{uuid4().hex[:6]}", values, IMAGE, LOCUST_IMAGE)
    release.create_namespace()
    yield release
    release.delete_namespace()


@pytest.fixture(scope="session")
def installed(values: dict[str, Any]) -> Iterator[tuple[Release, float]]:
    """The evaluation, installed, and the seconds until it was ready."""
    release = Release(f"stockroom-test-{uuid4().hex[:6]}", values, IMAGE, LOCUST_IMAGE)
    release.create_namespace()
    try:
        try:
            seconds = release.install()
        except CommandError as error:
            pytest.exit(f"it could not be installed:\n{error}\n{release.kubectl('get', 'pods,events')}", returncode=1)
        yield release, seconds
    finally:
        release.delete_namespace()


@pytest.fixture
def release(installed: tuple[Release, float]) -> Release:
    """The evaluation, as it was installed, whatever tests before did."""
    release, _ = installed
    release.upgrade()
    until(release.are_ready, 90, "two pods are ready and their predecessors gone")
    return release


@pytest.fixture
def console(release: Release) -> Iterator[Inside]:
    """A pod to look from."""
    with release.inside() as inside:
        yield inside


@pytest.fixture(scope="session")
def two_nodes() -> list[str]:
    if len(found := nodes()) < 2:
        pytest.skip("a drain needs two nodes that take pods, and there is one")
    return found


@pytest.fixture(scope="session")
def pod_metrics() -> None:
    try:
        run("kubectl", "get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes")
    except CommandError:
        pytest.skip("an autoscaler needs the metrics API, which this cluster has not: install metrics-server")


def _parts(image: str) -> dict[str, str]:
    repository, _, tag = image.rpartition(":")
    return {"repository": repository, "tag": tag} if repository and "/" not in tag else {"repository": image, "tag": "latest"}
