"""What does not fit, or cannot work, does not render, and the message says what to set."""

from typing import Any

import pytest

from app.capacity.inputs import Inputs
from app.capacity.model import Plan, Refusal, plan
from tests.chart.conftest import Refused, Render
from tests.chart.options import production

NAMES = {"database": "stockroom", "owner": "stockroom"}


class TestCapacity:
    def test_what_does_not_fit_is_refused_with_the_arithmetic(self, refused: Refused) -> None:
        message = refused({"replicas": 30})
        assert "This does not fit PostgreSQL's connections, so nothing is rendered." in message
        assert "\npeak pods            61  = 30 replicas + 1 surge + 30 terminating\n" in message
        assert "\n= budget for pools   18\ncap per pool          0  = floor(18 / 61 pools)\n" in message
        assert (
            "\nREFUSED: a pool needs at least 2 connections and its share is 0.\nWhat binds: replicaCeiling = 30   (value: replicas)\n"
            in message
        )

    def test_the_way_out_names_values_and_is_one(self, refused: Refused, render: Render) -> None:
        message = refused({"replicas": 30})
        assert "\n  replicas=12                  ->  a lower ceiling, instead of 30\n" in message
        assert "\n  capacity.maxConnections=204  ->  at least; 387 for pools of 5\n" in message
        assert "   (value: pgbouncer.enabled)" in message
        render({"replicas": 12})
        render({"replicas": 30, "capacity": {"maxConnections": 204}})

    def test_of_a_pgbouncer_it_says_what_each_instance_may_open(self, refused: Refused, render: Render) -> None:
        message = refused({"pgbouncer": {"enabled": True, "poolSize": 40}})
        assert "what PgBouncer may open is 121 more than the server has left" in message
        assert "\n  pgbouncer.poolSize=15        ->  smaller pools in PgBouncer, 79 in all instead of 200\n" in message
        render({"pgbouncer": {"enabled": True, "poolSize": 15}})

    def test_under_an_autoscaler_its_maximum_counts(self, refused: Refused) -> None:
        message = refused({"autoscaling": {"enabled": True, "maxReplicas": 30}})
        assert "(value: autoscaling.maxReplicas)" in message
        assert "autoscaling.maxReplicas=12" in message

    @pytest.mark.parametrize(
        ("values", "inputs"),
        [
            ({"strategy": {"maxSurge": "25%"}, "replicas": 5}, {"replica_ceiling": 5, "surge_pods": 2, "terminating_pods": 5}),
            ({"worker": {"replicas": 3}, "capacity": {"jobTerminatingPods": 1}}, {"job_replica_ceiling": 3, "job_terminating_pods": 1}),
            ({"resources": {"limits": {"cpu": "2500m", "memory": "1Gi"}}}, {"cpu_limit_millicores": 2500, "memory_limit_bytes": 2**30}),
            ({"resources": {"limits": {"cpu": 1.5, "memory": "0.5G"}}}, {"cpu_limit_millicores": 1500, "memory_limit_bytes": 500_000_000}),
            ({"capacity": {"replicaCeiling": 6}}, {"replica_ceiling": 6, "terminating_pods": 6}),
            (
                {"pgbouncer": {"enabled": True, "replicas": 3, "poolSize": 5, "maxClientConnections": 300}},
                {"pgbouncer_max_client_connections": 300, "pgbouncer_server_connections": 35},
            ),
        ],
    )
    def test_the_plan_counts_what_the_chart_makes(self, render: Render, values: dict[str, Any], inputs: dict[str, Any]) -> None:
        given = {
            "cpu_limit_millicores": 1000,
            "memory_limit_bytes": 256 * 2**20,
            "replica_ceiling": 2,
            "surge_pods": 1,
            "terminating_pods": 2,
            "job_replica_ceiling": 1,
            "job_surge_pods": 0,
            "job_terminating_pods": 1,
            "connections_per_job_worker": 6,
            "max_connections": 100,
            "other_client_connections": 5,
        }
        expected = plan(Inputs(**{**given, **inputs}))
        assert isinstance(expected, Plan)
        a = expected.arithmetic
        assert (
            f"Capacity: {a.peak_pods} pods at the peak of a roll-out, {expected.workers_per_pod} worker(s) each, pools of {expected.pool_size}:"
            f" at most {expected.peak_connections} of {a.usable_connections} connections."
        ) in render(values).notes

    def test_one_pod_more_than_fits_is_one_too_many(self, refused: Refused, render: Render) -> None:
        def inputs(replicas: int) -> Inputs:
            return Inputs(
                cpu_limit_millicores=1000, memory_limit_bytes=256 * 2**20, replica_ceiling=replicas, surge_pods=1, terminating_pods=replicas,
                job_replica_ceiling=1, job_surge_pods=0, job_terminating_pods=1, connections_per_job_worker=6, max_connections=100,
                other_client_connections=5,
            )  # fmt: skip

        most = max(replicas for replicas in range(1, 40) if isinstance(plan(inputs(replicas)), Plan))
        assert isinstance(plan(inputs(most + 1)), Refusal)
        render({"replicas": most})
        refused({"replicas": most + 1})


def test_production_tells_at_once_all_that_it_lacks(refused: Refused) -> None:
    none = {"resources": {"limits": {"cpu": None, "memory": None}}}
    message = refused({"mode": "production", **none, "worker": none, "migrations": none})
    assert [line.split(":")[0] for line in message.splitlines() if line.startswith("  - ")] == [
        "  - existingSecret is empty",
        "  - capacity.maxConnections is not set",
        "  - resources.limits.memory is not set",
        "  - migrations.resources.limits.memory is not set",
        "  - worker.resources.limits.memory is not set",
        "  - resources.limits.cpu is not set",
    ]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"resources": {"limits": {"cpu": None}}}, "resources.limits.cpu is not set"),
        ({"cloudNativePG": {"enabled": True}}, "cloudNativePG.enabled is for mode production"),
        (
            production(cloudNativePG={"enabled": True, "extraSpec": {"postgresql": {"parameters": {"max_connections": "500"}}}}),
            "the plan rests on it, so set capacity.maxConnections instead",
        ),
        (
            production(cloudNativePG={"enabled": True, "extraSpec": {"managed": {"roles": [{"name": "stockroom"}]}}}),
            "names the role stockroom, which the chart manages",
        ),
        (
            production(cloudNativePG={"enabled": True, "extraSpec": {"bootstrap": {"initdb": {**NAMES, "secret": {"name": "mine"}}}}}),
            "cloudNativePG.extraSpec.bootstrap.initdb.secret: leave it out",
        ),
        (
            production(cloudNativePG={"enabled": True, "extraSpec": {"bootstrap": {"recovery": {"source": "origin"}}}}),
            "cloudNativePG.extraSpec.bootstrap.recovery needs database: stockroom and owner: stockroom",
        ),
        ({"terminationGracePeriodSeconds": 29}, "make it at least 30 (2 x drainSeconds 5 + shutdownSeconds 15 + 5)"),
        (
            {"drainSeconds": 20.5, "terminationGracePeriodSeconds": 60},
            "make it at least 61 (2 x drainSeconds 20.5 + shutdownSeconds 15 + 5)",
        ),
        ({"strategy": {"maxSurge": 0}}, "a roll-out could never begin"),
        ({"replicas": 3, "capacity": {"replicaCeiling": 2}}, "capacity.replicaCeiling is 2 and there may be 3 pods"),
        ({"capacity": {"surgePods": 0}}, "capacity.surgePods is 0 and strategy.maxSurge starts 1"),
        (
            {"capacity": {"maxConnections": 10, "reservedConnections": 7}},
            "give less than maxConnections (10), as PostgreSQL itself demands",
        ),
        ({"capacity": {"pgbouncerMaxClientConnections": 100}}, "both, or neither"),
        (
            {"pgbouncer": {"enabled": True}, "capacity": {"pgbouncerMaxClientConnections": 100, "pgbouncerServerConnections": 10}},
            "use one of the two",
        ),
        ({"autoscaling": {"enabled": True, "minReplicas": 6}}, "autoscaling.minReplicas is 6: give at most maxReplicas (5)"),
        ({"autoscaling": {"enabled": True, "cpuUtilization": None}}, "autoscaling needs something to scale by"),
        (
            {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
            "a percentage of resources.requests.cpu, which is not set",
        ),
        ({"autoscaling": {"enabled": True, "by": "keda", "poolUtilization": 70}}, "needs autoscaling.prometheusAddress"),
        *(
            (
                {way: {"enabled": True} for way in ways},
                f"{' and '.join(f'{way}.enabled' for way in ways)} would scrape every pod more than once",
            )
            for ways in (
                ("serviceMonitor", "podMonitor"),
                ("podMonitor", "scrapeAnnotations"),
                ("serviceMonitor", "podMonitor", "scrapeAnnotations"),
            )
        ),
        ({"httpRoute": {"enabled": True}}, "httpRoute.enabled needs httpRoute.parentRefs"),
    ],
)
def test_what_cannot_work_is_refused(refused: Refused, values: dict[str, Any], complaint: str) -> None:
    assert complaint in refused(values)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replica": 3}, "additional properties 'replica' not allowed"),
        ({"mode": "staging"}, "at '/mode': value must be one of 'evaluation', 'production'"),
        ({"replicas": 0}, "at '/replicas': minimum: got 0, want 1"),
        ({"replicas": "three"}, "at '/replicas': got string, want integer"),
        ({"drainSeconds": 0}, "at '/drainSeconds': minimum: got 0, want 1"),
        ({"resources": {"limits": {"cpu": "two"}}}, "at '/resources/limits/cpu'"),
        ({"resources": {"limits": {"memory": "256MB"}}}, "at '/resources/limits/memory'"),
        ({"image": {"digest": "latest"}}, "at '/image/digest'"),
        ({"podSecurityContext": {"runAsUser": 0}}, "at '/podSecurityContext/runAsUser'"),
        ({"commonLabels": {"app.kubernetes.io/name": "shop"}}, "invalid propertyName 'app.kubernetes.io/name'"),
        ({"podLabels": {"app.kubernetes.io/component": "shop"}}, "invalid propertyName 'app.kubernetes.io/component'"),
        ({"settings": {"APP_DATABASE_URL": "postgresql://"}}, "additional properties 'APP_DATABASE_URL' not allowed"),
        ({"settings": {"APP_REPLICA_CEILING": 4}}, "additional properties 'APP_REPLICA_CEILING' not allowed"),
        ({"settings": {"APP_LOG_LEVLE": "debug"}}, "additional properties 'APP_LOG_LEVLE' not allowed"),
    ],
)
def test_values_of_the_wrong_name_or_shape_are_refused_by_the_schema(refused: Refused, values: dict[str, Any], complaint: str) -> None:
    assert complaint in refused(values)


def test_what_a_parent_chart_hands_down_is_no_mistake(render: Render) -> None:
    render({"global": {"imageRegistry": "registry.example.com", "anything": [1]}, "enabled": True})
