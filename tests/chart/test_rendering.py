"""What the chart promises of what it renders."""

import base64
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest

from app.core.config import parse_signing_keys
from tests.chart.conftest import Render
from tests.chart.manifests import Object, containers, environment
from tests.chart.options import EXAMPLE, OPTIONS, production

HELM_TIMEOUT_SECONDS = 300
"""What `helm install` waits for a hook unless told otherwise."""


def pod_of(workload: Object) -> Object:
    found: Object = workload["spec"]["template"]
    return found


def api(render: Render, values: dict[str, Any] | None = None) -> Object:
    (container,) = pod_of(render(values).get("Deployment"))["spec"]["containers"]
    found: Object = container
    return found


class TestEvaluation:
    def test_needs_nothing_and_says_where_its_password_is(self, render: Render) -> None:
        manifests = render()
        assert {"Secret", "StatefulSet", "Deployment", "Service"} <= manifests.kinds()
        assert "get secret stockroom -o jsonpath='{.data.admin-password}'" in manifests.notes
        assert "NOT FOR PRODUCTION" in manifests.notes

    def test_its_secrets_are_usable_and_of_its_own_database(self, render: Render) -> None:
        data = {key: base64.b64decode(value).decode() for key, value in render().get("Secret")["data"].items()}
        assert len(parse_signing_keys(data["signing-keys"])) == 1
        assert data["database-url"] == f"postgresql://stockroom:{data['database-password']}@stockroom-postgres:5432/stockroom"
        assert all(len(data[key]) == 24 for key in ("admin-password", "postgres-password", "database-password"))

    def test_the_api_pods_make_role_schema_and_administrator_and_the_others_wait(self, render: Render) -> None:
        names = [container["name"] for container in pod_of(render().get("Deployment"))["spec"]["initContainers"]]
        assert names == ["prepare-database", "migrate", "first-admin"]
        (waiting,) = pod_of(render().get("Deployment", "stockroom-worker"))["spec"]["initContainers"]
        assert waiting["args"] == ["await-schema", "--wait-seconds", "300"]
        assert "Job" not in render().kinds()

    def test_its_postgresql_has_the_connections_that_are_planned_with(self, render: Render) -> None:
        (postgres,) = pod_of(render({"capacity": {"maxConnections": 150}}).get("StatefulSet", "stockroom-postgres"))["spec"]["containers"]
        assert postgres["args"] == ["-c", "max_connections=150"]

    def test_its_volume_goes_with_the_release(self, render: Render) -> None:
        spec = render().get("StatefulSet", "stockroom-postgres")["spec"]
        assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"


class TestMigrations:
    def test_the_hook_needs_nothing_that_the_release_makes(self, render: Render) -> None:
        manifests = render(OPTIONS["everything that can be said of a pod"])
        job = manifests.get("Job", "shop-api-migrate")
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        spec = pod_of(job)["spec"]
        assert "serviceAccountName" not in spec
        (container,) = spec["containers"]
        assert "envFrom" not in container
        settings = manifests.get("ConfigMap", "shop-api")["data"]
        assert settings.items() <= environment(container).items()

    def test_what_extra_env_says_of_a_setting_is_said_once_in_the_hook(self, render: Render) -> None:
        job = render(production(extraEnv=[{"name": "APP_HOLD_TIME_MS", "value": "20"}])).get("Job", "stockroom-migrate")
        (container,) = pod_of(job)["spec"]["containers"]
        assert [entry["value"] for entry in container["env"] if entry["name"] == "APP_HOLD_TIME_MS"] == ["20"]
        assert len(container["env"]) == len(environment(container))

    def test_pods_wait_for_it(self, render: Render) -> None:
        for name in ("stockroom", "stockroom-worker"):
            (waiting,) = pod_of(render(production()).get("Deployment", name))["spec"]["initContainers"]
            assert waiting["args"][0] == "await-schema"

    @pytest.mark.parametrize("option", ["evaluation", "CloudNativePG", "CloudNativePG with its Pooler"])
    def test_a_database_that_the_chart_makes_is_migrated_by_pods_because_a_hook_would_wait_for_ever(
        self, render: Render, option: str
    ) -> None:
        manifests = render(OPTIONS[option])
        assert not any(found["metadata"].get("annotations", {}).get("helm.sh/hook", "test") != "test" for found in manifests)
        assert "migrate" in [container["name"] for container in pod_of(manifests.get("Deployment"))["spec"]["initContainers"]]

    def test_pods_that_migrate_a_database_of_yours_limit_its_role_and_plain_manifests_can_change_the_limit(self, render: Render) -> None:
        manifests = render(production(migrations={"by": "pods"}))
        (migrate,) = pod_of(manifests.get("Deployment"))["spec"]["initContainers"]
        assert migrate["args"][-2:] == ["--connection-limit", "$(ROLE_CONNECTION_LIMIT)"]
        assert manifests.get("ConfigMap")["data"]["ROLE_CONNECTION_LIMIT"] == "43"
        by_hook = pod_of(render(production()).get("Job", "stockroom-migrate"))["spec"]["containers"][0]
        assert by_hook["args"][-2:] == ["--connection-limit", "43"]

    def test_the_job_is_given_up_before_helm_would_stop_waiting_for_it(self, render: Render) -> None:
        assert render(production()).get("Job", "stockroom-migrate")["spec"]["activeDeadlineSeconds"] < HELM_TIMEOUT_SECONDS


class TestProbesAndStopping:
    def test_liveness_never_looks_at_the_database(self, render: Render) -> None:
        container = api(render)
        paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/healthz"}

    def test_a_stop_drains_first_and_has_the_time_for_it(self, render: Render) -> None:
        values = {"drainSeconds": 20.5, "shutdownSeconds": 30}
        assert api(render, values)["lifecycle"] == {"preStop": {"exec": {"command": ["stockroom", "drain"]}}}
        assert pod_of(render(values).get("Deployment"))["spec"]["terminationGracePeriodSeconds"] == 76
        settings = render(values).get("ConfigMap")["data"]
        assert (settings["APP_DRAIN_SECONDS"], settings["APP_SHUTDOWN_SECONDS"]) == ("20.5", "30")

    def test_a_worker_is_restarted_when_its_loop_stands_still_and_ready_while_it_has_a_database(self, render: Render) -> None:
        (worker,) = pod_of(render().get("Deployment", "stockroom-worker"))["spec"]["containers"]
        assert worker["args"] == ["worker", "--health-file", "/dev/shm/worker"]
        assert worker["livenessProbe"]["exec"]["command"][-1] == 'test "$(find /dev/shm/worker -mmin -1)"'
        assert worker["readinessProbe"]["exec"]["command"] == ["grep", "-q", "ready", "/dev/shm/worker"]


class TestScaling:
    @pytest.mark.parametrize("option", ["hpa by CPU and pools", "keda by CPU and pools"])
    def test_under_an_autoscaler_no_number_of_replicas_is_fought_over(self, render: Render, option: str) -> None:
        assert "replicas" not in render(OPTIONS[option]).get("Deployment")["spec"]
        assert render().get("Deployment")["spec"]["replicas"] == 2

    def test_the_cpu_limit_reaches_the_plan_in_thousandths(self, render: Render) -> None:
        entries = {entry["name"]: entry for entry in api(render)["env"]}
        assert entries["CPU_LIMIT_MILLICORES"]["valueFrom"]["resourceFieldRef"] == {"resource": "limits.cpu", "divisor": "1m"}
        assert entries["APP_CPU_LIMIT"]["value"] == "$(CPU_LIMIT_MILLICORES)m"

    def test_without_a_limit_the_number_of_workers_is_said(self, render: Render) -> None:
        values = {"resources": {"limits": {"cpu": None}}, "capacity": {"workersPerPodCeiling": 1}}
        assert environment(api(render, values))["APP_CPU_LIMIT"] == "1"

    def test_pgbouncers_go_one_at_a_time_whoever_makes_their_pods(self, render: Render) -> None:
        for option, label in (
            ("a PgBouncer of ours", ("app.kubernetes.io/component", "pgbouncer")),
            ("CloudNativePG with its Pooler", ("cnpg.io/poolerName", "stockroom-pgbouncer")),
        ):
            budget = render(OPTIONS[option]).get("PodDisruptionBudget", "stockroom-pgbouncer")["spec"]
            assert budget["maxUnavailable"] == 1
            assert label in budget["selector"]["matchLabels"].items()
        single = render(production(pgbouncer={"enabled": True, "replicas": 1}))
        assert ("PodDisruptionBudget", "stockroom-pgbouncer") not in single

    def test_a_budget_lets_pods_go_that_are_not_ready_anyway(self, render: Render) -> None:
        assert render().get("PodDisruptionBudget")["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert "PodDisruptionBudget" not in render({"replicas": 1}).kinds()


def test_large_numbers_reach_the_settings_as_they_were_written(render: Render) -> None:
    values = {"settings": {"APP_MAX_BODY_BYTES": 2_000_000, "APP_SEND_TIMEOUT_SECONDS": 12.5, "APP_CORS_CREDENTIALS": True}}
    bouncer = {"pgbouncer": {"enabled": True, "maxClientConnections": 1_000_000}}
    settings = render(values | bouncer | {"capacity": {"arrivalRatePerWorkerPerSecond": 1_000_000}}).get("ConfigMap")["data"]
    assert settings["APP_MAX_BODY_BYTES"] == "2000000"
    assert settings["APP_SEND_TIMEOUT_SECONDS"] == "12.5"
    assert settings["APP_CORS_CREDENTIALS"] == "true"
    assert settings["APP_PGBOUNCER_MAX_CLIENT_CONNECTIONS"] == settings["APP_ARRIVAL_RATE_PER_WORKER_PER_SECOND"] == "1000000"
    (configure,) = (
        found
        for found in containers(pod_of(render(values | bouncer).get("Deployment", "stockroom-pgbouncer")))
        if found["name"] == "configure"
    )
    assert environment(configure)["MAX_CLIENT_CONNECTIONS"] == "1000000"


class TestSecrets:
    @pytest.mark.parametrize(
        ("option", "url", "direct"),
        [
            ("production", ("stockroom-secrets", "database-url"), None),
            ("a PgBouncer of ours", ("stockroom-secrets", "pgbouncer-url"), ("stockroom-secrets", "database-url")),
            ("a PgBouncer of theirs", ("stockroom-secrets", "pgbouncer-url"), ("stockroom-secrets", "database-url")),
            ("CloudNativePG", ("stockroom-db-app", "uri"), None),
        ],
    )
    def test_who_connects_where(self, render: Render, option: str, url: tuple[str, str], direct: tuple[str, str] | None) -> None:
        found = environment(api(render, OPTIONS[option]))
        assert found["APP_DATABASE_URL"]["secretKeyRef"] == {"name": url[0], "key": url[1]}
        if direct is None:
            assert "APP_DATABASE_DIRECT_URL" not in found
        else:
            assert found["APP_DATABASE_DIRECT_URL"]["secretKeyRef"] == {"name": direct[0], "key": direct[1]}

    def test_through_the_pooler_with_the_operators_password(self, render: Render) -> None:
        found = environment(api(render, OPTIONS["CloudNativePG with its Pooler"]))
        assert found["APP_DATABASE_URL"] == "postgresql://$(POOLER_USERNAME):$(POOLER_PASSWORD)@stockroom-pgbouncer:5432/stockroom"
        assert found["APP_DATABASE_DIRECT_URL"]["secretKeyRef"] == {"name": "stockroom-db-app", "key": "uri"}

    def test_the_examples_url_names_a_certificate_that_every_process_with_a_database_has(self, render: Render) -> None:
        certificate = re.search(r"sslmode=verify-full&sslrootcert=(/[^']+)'", EXAMPLE.read_text())
        assert certificate
        for name, pod in render(OPTIONS["the example"]).pods():
            for container in containers(pod):
                if "APP_DATABASE_URL" in environment(container):
                    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
                    volume = mounts[str(Path(certificate[1]).parent)]
                    assert {"name": volume, "configMap": {"name": "database-ca"}} in pod["spec"]["volumes"], name

    def test_none_stands_in_a_config_map(self, render: Render) -> None:
        for option in OPTIONS.values():
            for found in render(option):
                if found["kind"] == "ConfigMap":
                    assert "postgresql://" not in str(found)

    def test_a_change_of_settings_restarts_the_pods(self, render: Render) -> None:
        def checksum(values: dict[str, Any]) -> str:
            found: str = pod_of(render(values).get("Deployment"))["metadata"]["annotations"]["checksum/config"]
            return found

        assert checksum({}) != checksum({"settings": {"APP_LOG_LEVEL": "debug"}})


def test_what_is_said_besides_of_a_cloudnativepg_cluster_is_merged_with_the_plan(render: Render) -> None:
    extra = {
        "backup": {"retentionPolicy": "30d"},
        "bootstrap": {"recovery": {"source": "origin", "database": "stockroom", "owner": "stockroom"}},
        "managed": {"roles": [{"name": "reporting", "connectionLimit": 2}]},
        "postgresql": {"parameters": {"shared_buffers": "1GB"}, "synchronous": {"method": "any", "number": 1}},
    }
    values = production(cloudNativePG={"enabled": True, "extraSpec": extra}) | {
        "capacity": {"maxConnections": 250, "reservedConnections": 2}
    }
    spec = render(values).get("Cluster", "stockroom-db")["spec"]
    assert spec["postgresql"] == {
        "parameters": {
            "max_connections": "250",
            "superuser_reserved_connections": "3",
            "reserved_connections": "2",
            "shared_buffers": "1GB",
        },
        "synchronous": {"method": "any", "number": 1},
    }
    assert [(role["name"], role["connectionLimit"]) for role in spec["managed"]["roles"]] == [("stockroom", 43), ("reporting", 2)]
    assert spec["bootstrap"] == extra["bootstrap"]
    assert spec["backup"] == {"retentionPolicy": "30d"}


def test_what_is_unset_of_a_cloudnativepg_cluster_is_as_if_nothing_were_said(render: Render) -> None:
    def spec(extra: dict[str, Any]) -> Object:
        found: Object = render(production(cloudNativePG={"enabled": True, "extraSpec": extra})).get("Cluster", "stockroom-db")["spec"]
        return found

    assert spec({"bootstrap": None, "managed": None, "postgresql": None}) == spec({})
    assert spec({"managed": {"roles": None}, "postgresql": {"parameters": None}}) == spec({})


def test_pods_reach_dns_wherever_its_own_pods_listen(render: Render) -> None:
    rules = render(OPTIONS["pods scraped, everybody let in"]).get("NetworkPolicy")["spec"]["egress"]
    ports = {(port["port"], port["protocol"]) for rule in rules for port in rule.get("ports", [])}
    assert {(port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")} <= ports


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_the_notes_say_what_a_service_open_to_the_outside_shows(render: Render, kind: str) -> None:
    said = "also shows /metrics and /healthz to whoever reaches it"
    assert f"service.type {kind} {said}" in render({"service": {"type": kind}}).notes
    assert said not in render().notes


def test_jobs_that_failed_do_not_outlive_the_release_for_ever(render: Render) -> None:
    for option, job in (("production", "stockroom-migrate"), ("evaluation behind a PgBouncer, with a load test", "stockroom-load-test")):
        assert render(OPTIONS[option]).get("Job", job)["spec"]["ttlSecondsAfterFinished"] == 86400


def test_users_and_groups_can_be_unset_for_openshift(render: Render) -> None:
    for option in ("evaluation with a secret, without a volume, on OpenShift", "no account of its own"):
        for name, pod in render(OPTIONS[option]).pods():
            contexts = [pod["spec"]["securityContext"], *(container["securityContext"] for container in containers(pod))]
            assert not any({"runAsUser", "runAsGroup", "fsGroup"} & set(context) for context in contexts), name


def test_the_example_believes_no_more_than_a_small_network_what_address_a_client_has() -> None:
    settings = OPTIONS["the example"]["settings"]
    assert ip_network(settings["APP_TRUSTED_PROXIES"]).num_addresses <= 256


def test_probes_and_metrics_are_not_reached_from_outside(render: Render) -> None:
    manifests = render(OPTIONS["routes and scraping"])
    (rule,) = manifests.get("Ingress")["spec"]["rules"]
    (route,) = manifests.get("HTTPRoute")["spec"]["rules"]
    paths = {path["path"] for path in rule["http"]["paths"]}
    assert (
        paths == {match["path"]["value"] for match in route["matches"]} == {"/api", "/docs", "/openapi.json", "/.well-known", "/problems"}
    )


def test_annotations_name_the_port_that_each_component_has_its_metrics_on(render: Render) -> None:
    manifests = render({"scrapeAnnotations": {"enabled": True}})
    for name, port_name in (("stockroom", "http"), ("stockroom-worker", "metrics")):
        pod = pod_of(manifests.get("Deployment", name))
        (port,) = [port["containerPort"] for port in pod["spec"]["containers"][0]["ports"] if port["name"] == port_name]
        found = [pod["metadata"]["annotations"][f"prometheus.io/{key}"] for key in ("scrape", "port", "path")]
        assert found == ["true", str(port), "/metrics"]


def test_annotations_of_yours_win_and_no_key_comes_twice(chart: helm.Chart) -> None:
    values = {"scrapeAnnotations": {"enabled": True}, "podAnnotations": {"prometheus.io/scrape": "false", "a": "b"}}
    for component in ("api", "worker"):
        text = chart.render(values, name="stockroom", namespace="shop")[f"stockroom/templates/{component}.yaml"]
        assert [line.strip() for line in text.splitlines() if "prometheus.io/scrape" in line] == ['prometheus.io/scrape: "false"']


def test_tests_and_load_test_run_only_when_asked_for_and_go_when_they_have_succeeded(render: Render) -> None:
    manifests = render(OPTIONS["evaluation behind a PgBouncer, with a load test"])
    tests = [found for found in manifests if found["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"]
    assert {found["metadata"]["name"] for found in tests} == {"stockroom-test-capacity", "stockroom-test-round-trip", "stockroom-load-test"}
    for found in tests:
        assert "hook-succeeded" in found["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    (load_test,) = pod_of(manifests.get("Job", "stockroom-load-test"))["spec"]["containers"]
    assert load_test["args"][:7] == [
        "run", "--host", "http://stockroom:80", "--metrics", "http://stockroom-pods:8000/metrics", "--username", "admin@example.com",
    ]  # fmt: skip
    assert environment(load_test)["STOCKROOM_PASSWORD"]["secretKeyRef"]["key"] == "admin-password"


def test_names_stay_within_what_kubernetes_takes(render: Render) -> None:
    for found in render(OPTIONS["evaluation behind a PgBouncer, with a load test"], name="a" * 53):
        assert len(found["metadata"]["name"]) <= 63
