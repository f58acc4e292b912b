"""The API server takes every object that the chart can make. Who acts on them (controllers of ingresses, gateways, KEDA, CloudNativePG) is not there."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster.releases import Release

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
    "rules": {"prometheusRule": {"enabled": True}},
    "dashboards": {"dashboards": {"enabled": True}},
    "hpa": {"autoscaling": {"enabled": True, "poolUtilization": 70}},
    "keda": {"autoscaling": {"enabled": True, "by": "keda", "poolUtilization": 70, "prometheusAddress": "http://prometheus:9090"}},
    "pgbouncer": {"pgbouncer": {"enabled": True}},
    "cloudnativepg": {**_PRODUCTION, "cloudNativePG": {"enabled": True}, "pgbouncer": {"enabled": True}},
    "load test": {"loadTest": {"enabled": True}},
}


@pytest.fixture(scope="module")
def somewhere(values: dict[str, Any]) -> Iterator[Release]:
    release = Release(f"stockroom-test-{uuid4().hex[:6]}", values, "", "")
    release.create_namespace()
    yield release
    release.delete_namespace()


@pytest.mark.parametrize("option", _OPTIONS)
def test_the_api_server_takes_every_object(somewhere: Release, known_kinds: set[str], option: str) -> None:
    rendered = somewhere.helm("template", _OPTIONS[option])
    if unknown := set(re.findall(r"^kind: (\w+)$", rendered, re.MULTILINE)) - known_kinds:
        pytest.skip(f"this cluster does not define {', '.join(sorted(unknown))}")
    somewhere.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename", "-", given=rendered)
