"""Production: a database that somebody else runs, a Secret that somebody else makes, and the values of the example."""

import base64
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.releases import CHART, NAME, Release, merged, run

SECRET = "stockroom-secrets"
OUTSIDE = "outside-stockroom-postgres"
_ROLE = "CREATE ROLE shop LOGIN PASSWORD 'made up for a test'; CREATE DATABASE shop OWNER shop"
_URL = "postgresql://shop:made%20up%20for%20a%20test@{}/shop"


class Production(Release):
    """A release in production mode beside a PostgreSQL that is not the chart's; its role is an ordinary one.

    Args:
        custom_kinds: whether the cluster knows ServiceMonitor, which the example makes.
    """

    def __init__(self, namespace: str, values: dict[str, Any], image: str, locust_image: str, *, custom_kinds: bool) -> None:
        example = yaml.safe_load((CHART / "values-production.example.yaml").read_text(encoding="utf-8"))
        small = {
            # A test's nodes are smaller than production's; and two pods, as the other tests wait for.
            "resources": {"requests": {"cpu": "100m", "memory": "192Mi"}},
            "autoscaling": {"minReplicas": 2, "maxReplicas": 3},
            "worker": {"replicas": 1},
            "drainSeconds": 5,
            # Its PostgreSQL speaks no TLS.
            "extraVolumes": [],
            "extraVolumeMounts": [],
            "capacity": {"maxConnections": 100, "otherClientConnections": 5, "databaseCores": None},
            "serviceMonitor": {"enabled": custom_kinds},
        }
        super().__init__(namespace, merged(merged(example, small), values), image, locust_image)
        self._secret = SECRET
        self._database_image = values.get("evaluation", {})

    def make_database(self, secret: str = SECRET) -> None:
        """Start it, and do what docs/kubernetes.md asks for: a role, a database and a Secret."""
        self._secret = secret
        password = self.namespace.encode().hex()
        self._make_secret("outside", {"postgres-password": password})
        values = {"existingSecret": "outside", "evaluation": self._database_image}
        server = run(
            "helm",
            "template",
            "outside",
            str(CHART),
            "--show-only=templates/evaluation-postgres.yaml",
            "--values=-",
            given=json.dumps(values),
        )
        self.kubectl("apply", "--filename=-", given=server)
        self.kubectl("rollout", "status", f"statefulset/{OUTSIDE}", "--timeout=120s")
        for statement in _ROLE.split("; "):
            self.superuser(statement)
        with tempfile.TemporaryDirectory() as folder:
            key = Path(folder) / "key.pem"
            subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
            urls = {"database-url": _URL.format(f"{OUTSIDE}:5432"), "pgbouncer-url": _URL.format(f"{NAME}-pgbouncer:6432")}
            self._make_secret(secret, {**urls, "signing-keys": key.read_text(), "admin-password": "of the load test's own user"})

    def superuser(self, statement: str) -> str:
        """What PostgreSQL answers to its superuser."""
        psql = 'PGPASSWORD=$POSTGRES_PASSWORD psql --no-psqlrc --tuples-only --no-align --host=127.0.0.1 --username=postgres --command="$0"'
        return self.kubectl("exec", f"{OUTSIDE}-0", "--", "sh", "-c", psql, statement).strip()

    def create_admin(self) -> None:
        """The first administrator, as the release's notes say, with the password that the load test's Secret has."""
        command = ["exec", "--stdin", f"deployment/{NAME}", "--container=api", "--", "stockroom", "user", "create", "admin@example.com"]
        self.kubectl(*command, "--role=admin", "--password-stdin", given=self.secret("admin-password") + "\n")

    def secret(self, key: str) -> str:
        """What the Secret holds that is not the chart's."""
        data = self.get("secret", f"--field-selector=metadata.name={self._secret}")[0]["data"]
        return base64.b64decode(data[key]).decode()

    def superuser_url(self) -> str:
        """As of the evaluation."""
        data = self.get("secret", "--field-selector=metadata.name=outside")[0]["data"]
        return f"postgresql://postgres:{base64.b64decode(data['postgres-password']).decode()}@{OUTSIDE}/shop"

    def node_of_database(self) -> str:
        """Where PostgreSQL runs."""
        node: str = self.get("pods", f"--field-selector=metadata.name={OUTSIDE}-0")[0]["spec"]["nodeName"]
        return node

    def _make_secret(self, name: str, content: dict[str, str]) -> None:
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content})
