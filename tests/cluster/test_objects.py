"""The API server takes every object that the chart can make. Who acts on them (controllers of ingresses, gateways, KEDA, CloudNativePG) is not there."""

import json
from typing import Any

import pytest

from tests.cluster.releases import CommandError, Release, run

_PRODUCTION: dict[str, Any] = {"mode": "production", "existingSecret": "stockroom-secrets", "capacity": {"maxConnections": 200}}
_OPTIONS: dict[str, dict[str, Any]] = {
    "evaluation": {},
    "production": _PRODUCTION,
    "network": {
        "networkPolicy": {"enabled": True},
        "ingress": {"enabled": True, "tlsSecretName": "tls"},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]},
    },
    "service monitor": {"serviceMonitor": {"enabled": True}},
    "pod monitor": {"podMonitor": {"enabled": True}},
    "hpa": {"autoscaling": {"enabled": True, "poolUtilization": 70}},
    "keda": {"autoscaling": {"enabled": True, "by": "keda", "poolUtilization": 70, "prometheusAddress": "http://prometheus:9090"}},
    "pgbouncer": {"pgbouncer": {"enabled": True}},
    "cloudnativepg": {**_PRODUCTION, "cloudNativePG": {"enabled": True}, "pgbouncer": {"enabled": True}},
    "load test": {"loadTest": {"enabled": True}},
}


@pytest.mark.parametrize("option", _OPTIONS)
def test_the_api_server_takes_every_object(empty_namespace: Release, option: str) -> None:
    rendered = empty_namespace.helm("template", _OPTIONS[option])
    if unknown := _unknown_kinds(rendered):
        pytest.skip(f"this cluster does not define {', '.join(sorted(unknown))}")
    empty_namespace.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename", "-", given=rendered)


def _unknown_kinds(rendered: str) -> set[str]:
    try:
        known = {line.split()[-1] for line in run("kubectl", "api-resources", "--no-headers").splitlines()}
    except CommandError:
        known = set()
    objects = json.loads(
        run("kubectl", "create", "--dry-run=client", "--validate=false", "--output=json", "--filename", "-", given=rendered)
    )
    return {each["kind"] for each in objects["items"]} - known
