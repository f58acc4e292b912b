"""What the chart takes from a cluster that it can look at: its own secrets, and the sizes of what runs there.

The cluster is a stand-in that answers `lookup` alone; the trials on a real one install and upgrade for real.
"""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import helm_python as helm
import pytest

from tests.chart.manifests import Manifests, Object
from tests.chart.options import production

LookingRender = Callable[..., Manifests]

RESOURCES = [
    {"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["get"]},
    {"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": ["get"]},
    {"name": "namespaces", "kind": "Namespace", "namespaced": False, "verbs": ["get"]},
]

STATEFUL_SETS = [{"name": "statefulsets", "kind": "StatefulSet", "namespaced": True, "verbs": ["get"]}]
APPS = {"groupVersion": "apps/v1", "version": "v1"}
ARGO_CD = {
    "name": "argoproj.io",
    "versions": [{"groupVersion": "argoproj.io/v1alpha1", "version": "v1alpha1"}],
    "preferredVersion": {"groupVersion": "argoproj.io/v1alpha1", "version": "v1alpha1"},
}
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}


@contextmanager
def cluster(objects: dict[str, Object]) -> Iterator[str]:
    """Serves objects by their paths; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            found = objects.get(path) or {
                "/api": {"kind": "APIVersions", "versions": ["v1"]},
                "/apis": {"kind": "APIGroupList", "groups": [{"name": "apps", "versions": [APPS], "preferredVersion": APPS}]},
                "/apis/apps/v1": {"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": STATEFUL_SETS},
                "/apis/argoproj.io/v1alpha1": {"kind": "APIResourceList", "groupVersion": "argoproj.io/v1alpha1", "resources": []},
                "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": RESOURCES},
                "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
            }.get(path)
            body = json.dumps(
                found or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            ).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def connected(objects: dict[str, Object]) -> Iterator[helm.Config]:
    """Helm, with such a cluster."""
    with cluster(objects) as address:
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "namespace": "shop"}}],
            "current-context": "c",
        }
        with helm.Config(kubeconfig_content=json.dumps(kubeconfig), namespace="shop") as config:
            yield config


@pytest.fixture
def render_on(chart: helm.Chart) -> LookingRender:
    """Renders as `helm upgrade` does on a cluster that has these objects."""

    def render(objects: list[Object], values: dict[str, Any]) -> Manifests:
        paths = {
            f"/{'api' if found['apiVersion'] == 'v1' else 'apis'}/{found['apiVersion']}/namespaces/shop/{found['kind'].lower()}s/"
            f"{found['metadata']['name']}": found
            for found in objects
        }
        with connected(paths) as config:
            return Manifests(config.render(chart, values, name="stockroom", namespace="shop", is_upgrade=True))

    return render


def decoded(secret: Object) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def test_generated_secrets_survive_an_upgrade_and_new_keys_join_them(render_on: LookingRender) -> None:
    first = render_on([], {}).get("Secret")
    second = render_on([first], {"pgbouncer": {"enabled": True}}).get("Secret")
    kept, found = decoded(first), decoded(second)
    assert found == kept | {"pgbouncer-url": f"postgresql://stockroom:{kept['database-password']}@stockroom-pgbouncer:6432/stockroom"}
    assert decoded(render_on([], {}).get("Secret")) != kept


@pytest.mark.parametrize(
    ("has_argo_cd", "can_look", "values", "is_refused"),
    [(True, False, {}, True), (True, False, {"existingSecret": "mine"}, False), (True, True, {}, False), (False, False, {}, False)],
)
def test_under_argo_cd_which_cannot_look_a_secret_of_yours_is_asked_for(
    chart: helm.Chart, has_argo_cd: bool, can_look: bool, values: dict[str, Any], is_refused: bool
) -> None:
    groups = {"/apis": {"kind": "APIGroupList", "groups": [ARGO_CD] if has_argo_cd else []}}
    objects = groups | ({"/api/v1/namespaces/shop": NAMESPACE} if can_look else {})
    # The stand-in knows no schemas, so that even what renders ends there.
    with connected(objects) as config, pytest.raises(helm.HelmError) as error:
        config.install(chart, "stockroom", values, dry_run="server")
    assert ("every rendering would make other secrets" in str(error.value)) is is_refused
    assert is_refused or "failed to download openapi" in str(error.value)


def test_a_secret_of_yours_that_changes_restarts_the_pods_at_the_next_upgrade(render_on: LookingRender) -> None:
    def secret(value: str) -> Object:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stockroom-secrets"}, "data": {"database-url": value}}

    def checksum(value: str) -> str:
        annotations = render_on([secret(value)], production()).get("Deployment")["spec"]["template"]["metadata"]["annotations"]
        found: str = annotations["checksum/secret"]
        return found

    assert checksum("YQ==") == checksum("YQ==") != checksum("Yg==")


def test_an_upgrade_from_evaluation_to_production_deletes_no_data_without_a_word(render_on: LookingRender) -> None:
    evaluation = render_on([], {}).get("StatefulSet", "stockroom-postgres")
    with pytest.raises(helm.HelmError, match="this upgrade would delete its PostgreSQL stockroom-postgres with all data") as refusal:
        render_on([evaluation], production())
    assert "kubectl -n shop delete statefulset stockroom-postgres" in str(refusal.value)
    somebody_elses = evaluation | {"spec": {"selector": {"matchLabels": {"app": "postgres"}}}}
    assert ("StatefulSet", "stockroom-postgres") not in render_on([somebody_elses], production())


class TestRollOut:
    """From one plan to another: both may fit, and their pods side by side not."""

    def test_the_same_again_fits_even_where_the_plan_leaves_nothing(self, render_on: LookingRender) -> None:
        values = production(replicas=12) | {"capacity": {"maxConnections": 100}}
        running = render_on([], values).get("ConfigMap")
        render_on([running], values)

    def test_more_pods_take_two_steps(self, render_on: LookingRender) -> None:
        capacity = {"maxConnections": 100}
        few, many = production(replicas=6) | {"capacity": capacity}, production(replicas=12) | {"capacity": capacity}
        running = render_on([], few).get("ConfigMap")
        with pytest.raises(helm.HelmError, match="Both releases fit, but not the roll-out from one to the other") as refusal:
            render_on([running], many)
        assert "more pods:        first set capacity.replicaCeiling to the new number" in str(refusal.value)
        running = render_on([running], few | {"capacity": {**capacity, "replicaCeiling": 12}}).get("ConfigMap")
        running = render_on([running], many).get("ConfigMap")
        # And back again: first fewer pods with the pools of many, then the pools of few.
        with pytest.raises(helm.HelmError, match="Both releases fit"):
            render_on([running], few)
        running = render_on([running], few | {"capacity": {**capacity, "replicaCeiling": 12}}).get("ConfigMap")
        render_on([running], few)

    def test_more_job_workers_take_two_steps(self, render_on: LookingRender) -> None:
        capacity = {"maxConnections": 100}
        one = production(replicas=6) | {"capacity": capacity}
        running = render_on([], one).get("ConfigMap")
        with pytest.raises(helm.HelmError, match="Both releases fit"):
            render_on([running], one | {"worker": {"replicas": 3}})
        running = render_on([running], one | {"capacity": {**capacity, "jobReplicaCeiling": 3}}).get("ConfigMap")
        render_on([running], one | {"worker": {"replicas": 3}})

    def test_a_pgbouncer_takes_two_steps(self, render_on: LookingRender) -> None:
        capacity = {"maxConnections": 100}
        direct = production(replicas=3) | {"capacity": capacity}
        bounced = direct | {"pgbouncer": {"enabled": True}}
        running = render_on([], direct).get("ConfigMap")
        with pytest.raises(helm.HelmError, match="Both releases fit"):
            render_on([running], bounced)
        running = render_on([running], direct | {"capacity": {**capacity, "otherClientConnections": 5 + 50}}).get("ConfigMap")
        render_on([running], bounced)

    def test_the_roles_limit_covers_both_while_they_are_mixed(self, render_on: LookingRender) -> None:
        running = render_on([], production(replicas=4)).get("ConfigMap")
        alone = render_on([], production()).get("Job", "stockroom-migrate")
        mixed = render_on([running], production()).get("Job", "stockroom-migrate")
        # 9 pods x 6, 2 job workers x 6, a migration; the smaller release has 5 pods.
        assert limit_of(mixed) == 9 * 6 + 12 + 1
        assert limit_of(alone) == 5 * 6 + 12 + 1


def limit_of(job: Object) -> int:
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return int(arguments[arguments.index("--connection-limit") + 1])
