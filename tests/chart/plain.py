"""The chart as plain manifests for kustomize, in `k8s/`: what evaluation and production share is the base, the rest are overlays. `make k8s` writes them."""

import shutil
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

from tests.chart.manifests import Manifests, Object
from tests.chart.options import production

ROOT = Path(__file__).parents[2]
SECRET = "stockroom"

# Without hooks, which only Helm knows, the pods migrate. The Secret has the name that the chart gives to its own, so that the load test finds either.
VALUES: dict[str, dict[str, Any]] = {
    "production": production(existingSecret=SECRET, migrations={"by": "pods"}, autoscaling={"enabled": True, "maxReplicas": 6}),
    "evaluation": {"existingSecret": SECRET},
}
_HEADER = "# Rendered from helm/stockroom by `make k8s`; a test holds it to the chart.\n"
_ABOUT = {
    "base": "# What the overlays share; apply one of those.\n",
    "production": """# Before the first `kubectl apply -k k8s/overlays/production`: docs/kubernetes.md, "Plain manifests".
# Whoever changes replicas, limits or max_connections plans anew: `stockroom capacity plan --format env` prints settings.env's numbers.
""",
    "load-test": """# The Service that the Job load-test-job.yaml reads metrics from. The Job is no part of this, because it cannot be
# changed: `kubectl replace --force -f k8s/load-test/load-test-job.yaml` runs it, each time anew. Its image is stockroom:VERSION, which the nodes must have.
""",
    "evaluation": """# sh k8s/make-secrets.sh, once, then kubectl apply -k k8s/overlays/evaluation. NOT FOR PRODUCTION.
""",
}


def plain_manifests(chart: helm.Chart) -> dict[str, str]:
    """All files of `k8s/` that are rendered, by their paths in it."""
    rendered = {name: _objects(chart, values) for name, values in VALUES.items()}
    own, other = rendered["production"], rendered["evaluation"]
    files = {f"base/{_file(key)}": _dump(own[key]) for key in own if key in other and key[0] != "ConfigMap"}
    files["base/kustomization.yaml"] = _kustomization("base", {"resources": sorted(path.removeprefix("base/") for path in files)})
    for name, objects in rendered.items():
        folder = f"overlays/{name}"
        added = {_file(key): _dump(found) for key, found in objects.items() if f"base/{_file(key)}" not in files and key[0] != "ConfigMap"}
        settings = objects["ConfigMap", "stockroom"]["data"]
        patches = {
            _file(key).replace(".yaml", "-patch.yaml"): (key, _patch(own[key], found)) for key, found in objects.items() if key in own
        }
        patches = {path: (key, patch) for path, (key, patch) in patches.items() if patch and key[0] != "ConfigMap"}
        files |= {f"{folder}/{path}": text for path, text in added.items()}
        files |= {f"{folder}/{path}": _dump(patch) for path, (_, patch) in patches.items()}
        files[f"{folder}/settings.env"] = _HEADER + "".join(f"{setting}={value}\n" for setting, value in settings.items())
        files[f"{folder}/kustomization.yaml"] = _kustomization(
            name,
            {
                "resources": ["../../base", *sorted(added)],
                # A name with a hash of the content, so that a change of settings restarts the pods.
                "configMapGenerator": [{"name": "stockroom", "envs": ["settings.env"]}],
                **(
                    {
                        "patches": [
                            {"path": path, "target": {"kind": kind, "name": name}} for path, ((kind, name), _) in sorted(patches.items())
                        ]
                    }
                    if patches
                    else {}
                ),
            },
        )
    tests = _objects(chart, {"existingSecret": SECRET, "loadTest": {"enabled": True}}, hooks=True)
    load_test = {_file(key): _dump(tests[key]) for key in (("Job", "stockroom-load-test"), ("Service", "stockroom-pods"))}
    files |= {f"load-test/{path}": text for path, text in load_test.items()}
    files["load-test/kustomization.yaml"] = _kustomization("load-test", {"resources": ["pods-service.yaml"]})
    return files


def _objects(chart: helm.Chart, values: dict[str, Any], *, hooks: bool = False) -> dict[tuple[str, str], Object]:
    found = {}
    for item in Manifests(chart.render(values, name="stockroom", namespace="default")):
        metadata = item["metadata"]
        annotations = metadata.pop("annotations", {})
        if "helm.sh/hook" in annotations and not hooks:
            continue
        del metadata["labels"]["app.kubernetes.io/managed-by"], metadata["labels"]["helm.sh/chart"]
        if item["kind"] == "Deployment":
            del item["spec"]["template"]["metadata"]["annotations"]
        found[item["kind"], metadata["name"]] = item
    return found


def _patch(base: Any, wanted: Any, path: str = "") -> list[Object]:
    """A JSON patch (RFC 6902) that makes one of the other; lists are replaced whole."""
    if base == wanted:
        return []
    if not (isinstance(base, dict) and isinstance(wanted, dict)):
        return [{"op": "replace", "path": path, "value": wanted}]
    patch = []
    for name in [*base, *(name for name in wanted if name not in base)]:
        inner = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in wanted:
            patch.append({"op": "remove", "path": inner})
        elif name not in base:
            patch.append({"op": "add", "path": inner, "value": wanted[name]})
        else:
            patch += _patch(base[name], wanted[name], inner)
    return patch


def _file(key: tuple[str, str]) -> str:
    kind, name = key
    component = name.removeprefix("stockroom").removeprefix("-") or "api"
    return f"{component}-{kind.lower()}.yaml"


def _kustomization(name: str, content: Object) -> str:
    return _HEADER + _ABOUT[name] + _text({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **content})


def _dump(content: Any) -> str:
    return _HEADER + _text(content)


def _text(content: Any) -> str:
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1000)
    return text


class _Dumper(yaml.SafeDumper):  # type: ignore[misc] # PyYAML has no types
    """Without anchors, and scripts as they are read."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


_Dumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)
)


def write(folder: Path) -> None:
    """Write them all, and remove what is no longer rendered."""
    for part in ("base", "overlays", "load-test"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for path, text in plain_manifests(helm.Chart.load(ROOT / "helm" / "stockroom")).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


if __name__ == "__main__":
    write(ROOT / "k8s")
