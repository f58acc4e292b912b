"""Every option of the chart, in as few sets of values as show each of them on and off."""

from pathlib import Path
from typing import Any

import yaml

Values = dict[str, Any]

EXAMPLE = Path(__file__).parents[2] / "helm" / "stockroom" / "values-production.example.yaml"


def production(**more: Any) -> Values:
    """The least that production asks for."""
    return {"mode": "production", "existingSecret": "stockroom-secrets", "capacity": {"maxConnections": 200}, **more}


OPENSHIFT = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}

OPTIONS: dict[str, Values] = {
    "evaluation": {},
    "evaluation with a secret, without a volume, on OpenShift": {
        "existingSecret": "mine",
        "podSecurityContext": OPENSHIFT,
        "evaluation": {"postgres": {"podSecurityContext": OPENSHIFT, "persistence": {"enabled": False}}},
    },
    "evaluation behind a PgBouncer, with a load test": {
        "pgbouncer": {"enabled": True},
        "loadTest": {"enabled": True},
        "evaluation": {"postgres": {"persistence": {"storageClassName": "fast"}}},
    },
    "production": production(),
    "the example": yaml.safe_load(EXAMPLE.read_text()),
    "migrated by its pods, one pod, no job workers": production(migrations={"by": "pods"}, replicas=1, worker={"replicas": 0}),
    "hpa by CPU and pools": production(
        autoscaling={"enabled": True, "poolUtilization": 70, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}
    ),
    "keda by CPU and pools": production(
        autoscaling={
            "enabled": True,
            "by": "keda",
            "poolUtilization": 70,
            "prometheusAddress": "http://prometheus:9090",
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
        }
    ),
    "a PgBouncer of ours": production(pgbouncer={"enabled": True}),
    "a PgBouncer of theirs": {
        **production(),
        "capacity": {"maxConnections": 200, "pgbouncerMaxClientConnections": 500, "pgbouncerServerConnections": 40},
    },
    "CloudNativePG": production(cloudNativePG={"enabled": True}),
    "CloudNativePG with its Pooler": production(
        cloudNativePG={
            "enabled": True,
            "imageName": "postgres:18",
            "storageClassName": "fast",
            "resources": {"limits": {"memory": "4Gi"}},
            "extraSpec": {"enableSuperuserAccess": False},
        },
        pgbouncer={"enabled": True, "poolSize": 5},
    ),
    "routes and scraping": production(
        ingress={"enabled": True, "className": "nginx", "annotations": {"a": "b"}, "tlsSecretName": "tls"},
        httpRoute={"enabled": True, "parentRefs": [{"name": "gateway", "namespace": "edge"}], "annotations": {"a": "b"}},
        serviceMonitor={"enabled": True, "labels": {"release": "prometheus"}},
        prometheusRule={
            "enabled": True,
            "labels": {"release": "prometheus"},
            "selector": 'namespace="shop"',
            "runbooks": "https://a.example/b/",
        },
        dashboards={"enabled": True, "annotations": {"grafana_folder": "Stockroom"}},
        objectives={"availabilityPercent": 99.95, "latencyPercent": 95, "latencySeconds": "0.5"},
        networkPolicy={
            "enabled": True,
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}}],
            "extraEgress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
        },
        service={"type": "NodePort", "nodePort": 30080, "annotations": {"a": "b"}},
    ),
    "pods scraped, everybody let in": production(
        podMonitor={"enabled": True}, networkPolicy={"enabled": True}, podDisruptionBudget={"enabled": False}
    ),
    "everything that can be said of a pod": production(
        scrapeAnnotations={"enabled": True},
        nameOverride="shop",
        fullnameOverride="shop-api",
        commonLabels={"team": "shop"},
        image={
            "registry": "registry.example.com",
            "repository": "shop/stockroom",
            "tag": "1.2.3",
            "digest": f"sha256:{'a' * 64}",
            "pullPolicy": "Always",
            "pullSecrets": [{"name": "registry"}],
        },
        settings={
            "APP_LOG_LEVEL": "debug",
            "APP_TRUSTED_PROXIES": "10.0.0.0/8",
            "APP_CORS_CREDENTIALS": False,
            "APP_MAX_BODY_BYTES": 2_000_000,
        },
        extraEnv=[{"name": "TZ", "value": "UTC"}],
        extraVolumes=[{"name": "certificates", "configMap": {"name": "certificates"}}],
        extraVolumeMounts=[{"name": "certificates", "mountPath": "/certificates", "readOnly": True}],
        host="::",
        terminationGracePeriodSeconds=120,
        podAnnotations={"a": "b"},
        podLabels={"c": "d"},
        nodeSelector={"disk": "ssd"},
        tolerations=[{"key": "shop", "operator": "Exists"}],
        affinity={"nodeAffinity": {}},
        priorityClassName="high",
        worker={
            "nodeSelector": {"disk": "hdd"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "low",
        },
        topologySpread=[],
        serviceAccount={"create": True, "name": "shop", "annotations": {"a": "b"}},
        resources={"limits": {"cpu": None, "memory": "512Mi"}, "requests": {"cpu": 0.5}},
        extraObjects=["apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-more\n"],
        strategy={"maxSurge": "25%", "maxUnavailable": "25%"},
    )
    | {"capacity": {"maxConnections": 200, "workersPerPodCeiling": 2, "databaseCores": 4, "arrivalRatePerWorkerPerSecond": 200}},
    "no account of its own": production(serviceAccount={"create": False}, podSecurityContext=dict.fromkeys(OPENSHIFT, "")),
}
