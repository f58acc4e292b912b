"""Stockroom on the cluster that kubectl points to: installed with the real Helm, seen from inside."""

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHART = Path(__file__).parents[2] / "helm/stockroom"
LOAD = Path(__file__).with_name("load.py").read_text(encoding="utf-8")
LOCUSTS = Path(__file__).with_name("locusts.py").read_text(encoding="utf-8")
NAME = "stockroom"
READY_SECONDS = 180
RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


class CommandError(Exception):
    """A command said no; the text is what it said."""


def run(*command: str, given: str | None = None) -> str:
    """What a command prints.

    Raises:
        CommandError: it failed.
    """
    ran = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise CommandError(f"{' '.join(command)[:300]}\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}")
    return ran.stdout


def nodes() -> list[str]:
    """The nodes that take pods."""
    found = json.loads(run("kubectl", "get", "nodes", "--output", "json"))["items"]
    return [node["metadata"]["name"] for node in found if not node["spec"].get("unschedulable") and not node["spec"].get("taints")]


@dataclass
class Seen:
    """What a load saw: its totals, and each failed request with its time and error."""

    totals: dict[str, Any] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        shown = {name: value for name, value in self.totals.items() if name not in ("acknowledged", "attempted")}
        return "\n".join([str(shown), *(f"  {each['at']}  {each['failed']}" for each in self.failures[:40])])


class Release:
    """One release in a namespace of its own, which enforces the Pod Security Standard `restricted`.

    Args:
        values: of the chart, for every install and upgrade.
        image: what looks from inside is started from.
        locust_image: the same with Locust.
    """

    def __init__(self, namespace: str, values: dict[str, Any], image: str, locust_image: str) -> None:
        self.namespace = namespace
        self.values = values
        self._image = image
        self._locust_image = locust_image

    def create_namespace(self) -> None:
        """Make it."""
        label = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": label}})

    def delete_namespace(self) -> None:
        """Delete it with all that is in it."""
        run("kubectl", "delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=120s")

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return run("kubectl", "--namespace", self.namespace, *arguments, given=given)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Make objects as they are given."""
        self.kubectl("apply", "--filename", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Objects of a kind."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, *arguments, "--output", "json"))["items"]
        return found

    def helm(self, command: str, values: dict[str, Any] | None = None, *arguments: str) -> str:
        """Install, upgrade or render with the release's values and others."""
        given = json.dumps(merged(self.values, values or {}))
        return run("helm", command, NAME, str(CHART), "--namespace", self.namespace, "--values", "-", *arguments, given=given)

    def install(self, values: dict[str, Any] | None = None) -> float:
        """Install and wait until all is ready; the seconds that took."""
        began = time.monotonic()
        self.helm("install", values, "--wait", f"--timeout={READY_SECONDS}s")
        return time.monotonic() - began

    def upgrade(self, values: dict[str, Any] | None = None, *arguments: str) -> None:
        """Upgrade and wait until all is ready."""
        self.helm("upgrade", values, "--wait", f"--timeout={READY_SECONDS}s", *arguments)

    def revision(self) -> str:
        """The release's revision, counted by Helm."""
        return str(json.loads(run("helm", "status", NAME, "--namespace", self.namespace, "--output", "json"))["version"])

    def rollback(self, revision: str) -> None:
        """Go back to a revision and wait until all is ready."""
        run("helm", "rollback", NAME, revision, "--namespace", self.namespace, "--wait", f"--timeout={READY_SECONDS}s")

    def pods(self, component: str) -> list[dict[str, Any]]:
        """The pods of a component, api, worker or postgres, without those that are ending."""
        return [pod for pod in self._pods(component) if "deletionTimestamp" not in pod["metadata"]]

    def restarts(self) -> int:
        """How often containers of ours were started again."""
        pods = [*self.pods("api"), *self.pods("worker")]
        return sum(status["restartCount"] for pod in pods for status in pod["status"].get("containerStatuses", ()))

    def are_ready(self, component: str = "api", at_least: int = 2) -> bool:
        """Whether so many pods are ready, and none of the others is starting or ending."""
        pods = self._pods(component)
        return len(pods) >= at_least and all(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in pods)

    def secret(self, key: str) -> str:
        """What the release's Secret holds."""
        data = json.loads(self.kubectl("get", "secret", NAME, "--output", "json"))["data"]
        return base64.b64decode(data[key]).decode()

    def superuser_url(self) -> str:
        """Of the database, by a superuser: it takes none of the role's connections, but one of those that are left to others."""
        return f"postgresql://postgres:{self.secret('postgres-password')}@{NAME}-postgres/stockroom"

    def node_of_database(self) -> str:
        """Where PostgreSQL runs."""
        (pod,) = self.pods("postgres")
        node: str = pod["spec"]["nodeName"]
        return node

    @contextmanager
    def inside(self) -> Iterator["Inside"]:
        """A pod that waits for commands, on PostgreSQL's node."""
        with self._waiting("console", self._image) as console:
            yield console

    @contextmanager
    def locust(self, *, clients: int = 16, rate: float = 32) -> Iterator["Seen"]:
        """Locust's clients at work while the block runs; what they saw is complete after it."""
        with self._waiting("locust", self._locust_image) as pod, pod.load(LOCUSTS, clients=clients, rate=rate) as seen:
            yield seen

    @contextmanager
    def _waiting(self, name: str, image: str) -> Iterator["Inside"]:
        container = {
            "name": name,
            "image": image,
            "command": ["python", "-c", "import signal; signal.pause()"],
            "env": [
                {"name": "PASSWORD", "value": self.secret("admin-password")},
                {"name": "DATABASE_URL", "value": self.superuser_url()},
            ],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
            "securityContext": RESTRICTED,
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": self.node_of_database()},
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {"runAsUser": 65532, "runAsGroup": 65532},
                "containers": [container],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        }
        self.apply(pod)
        try:
            self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
            yield Inside(self, name)
        finally:
            self.kubectl("delete", "pod", name, "--now", "--wait=true")

    def _pods(self, component: str) -> list[dict[str, Any]]:
        return self.get("pods", "--selector", f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component={component}")


class Inside:
    """A pod to run commands in."""

    def __init__(self, release: Release, name: str) -> None:
        self._release = release
        self._name = name

    def exec(self, *command: str) -> str:
        """What a command prints there."""
        return self._release.kubectl("exec", self._name, "--", *command)

    def get(self, path: str, host: str = NAME) -> tuple[int, str]:
        """Status and body of an answer of the service, or of a pod's address."""
        asked = (
            "import sys, urllib.request, urllib.error\n"
            "try: answer = urllib.request.urlopen(sys.argv[1], timeout=10)\n"
            "except urllib.error.HTTPError as error: answer = error\n"
            "print(answer.status); print(answer.read().decode())"
        )
        status, _, body = self.exec("python", "-c", asked, f"http://{host}{path}").partition("\n")
        return int(status), body

    def reaches(self, host: str) -> bool:
        """Whether somebody answers at an address."""
        try:
            self.get("/livez", host)
        except CommandError:
            return False
        return True

    def query(self, query: str) -> list[str]:
        """The first column of what PostgreSQL answers."""
        asked = (
            "import os, sys, psycopg\n"
            "with psycopg.connect(os.environ['DATABASE_URL']) as connection: print(*(row[0] for row in connection.execute(sys.argv[1])), sep='\\n')"
        )
        return self.exec("python", "-c", asked, query).splitlines()

    def metric(self, name: str, host: str = NAME) -> float:
        """A metric's value, in the pod that answers."""
        _, body = self.get("/metrics", host)
        return next(float(line.split()[-1]) for line in body.splitlines() if line.partition("{")[0].partition(" ")[0] == name)

    def levels(self) -> dict[str, int]:
        """Units on hand of what the load adds to."""
        with self._running(LOAD, "--levels") as process:
            levels: dict[str, int] = json.loads(process.communicate()[0].splitlines()[-1])["levels"]
        return levels

    @contextmanager
    def load(self, script: str = LOAD, *, clients: int = 16, rate: float = 40) -> Iterator[Seen]:
        """Keep-alive clients at work while the block runs; what they saw is complete after it."""
        seen = Seen()
        with self._running(script, "--clients", str(clients), "--rate", str(rate)) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            # A request may fail before all clients are connected.
            early = []
            for line in process.stdout:
                if "started" in line:
                    break
                early.append(line)
            else:
                raise AssertionError(f"the load did not start: {''.join(early)}")
            try:
                yield seen
            finally:
                process.stdin.close()
                lines = [json.loads(line) for line in [*early, *process.stdout] if line.startswith("{")]
                code = process.wait()
                seen.failures += [line for line in lines if "failed" in line]
                seen.totals |= next((line["totals"] for line in lines if "totals" in line), {"exit_code": code})
                print(seen)  # noqa: T201 - what `pytest -s` and a failure show
                assert code == 0 or seen.failures, "the load ended with an error, or its connection was lost"

    def _running(self, script: str, *arguments: str) -> "subprocess.Popen[str]":
        command = ["python", "-c", script, f"http://{NAME}", *arguments]
        return subprocess.Popen(
            ["kubectl", "--namespace", self._release.namespace, "exec", "--stdin", self._name, "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether the pod takes requests."""
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in pod["status"].get("conditions", ()))


def until(holds: Callable[[], object], seconds: float, what: str) -> float:
    """Wait for something that can be seen from outside; the seconds that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"not after {seconds} s: {what}"
        time.sleep(0.5)
    return time.monotonic() - began


def nothing_was_lost(seen: Sequence[Seen], before: dict[str, int], after: dict[str, int]) -> bool:
    """Whether all units that were acknowledged are there, and none that were never sent."""
    for sku, units in after.items():
        added = units - before.get(sku, 0)
        if (
            not sum(each.totals["acknowledged"].get(sku, 0) for each in seen)
            <= added
            <= sum(each.totals["attempted"].get(sku, 0) for each in seen)
        ):
            return False
    return True


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Values with others over them, as Helm merges them."""
    both = dict(below)
    for name, value in above.items():
        old = both.get(name)
        both[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both
