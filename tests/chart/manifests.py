"""What Helm has rendered, as objects."""

from collections.abc import Iterator
from typing import Any

import yaml

Object = dict[str, Any]

# The C parser is ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PODS_IN = {"Pod": (), "Deployment": ("spec", "template"), "StatefulSet": ("spec", "template"), "Job": ("spec", "template")}


class Manifests:
    """The objects of one rendering, by kind and name.

    Args:
        rendered: texts by template, as Helm returns them.
    """

    def __init__(self, rendered: dict[str, str]) -> None:
        self.notes = next((text for template, text in rendered.items() if template.endswith("NOTES.txt")), "")
        self._objects: dict[tuple[str, str], Object] = {}
        for template, text in rendered.items():
            for found in yaml.load_all(text, Loader=_LOADER) if template.endswith(".yaml") else ():
                if found:
                    key = found["kind"], found["metadata"]["name"]
                    assert key not in self._objects, f"{key} is there twice"
                    self._objects[key] = found

    def __iter__(self) -> Iterator[Object]:
        return iter(self._objects.values())

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._objects

    def get(self, kind: str, name: str = "stockroom") -> Object:
        """One of them."""
        return self._objects[kind, name]

    def kinds(self) -> set[str]:
        return {kind for kind, _ in self._objects}

    def pods(self) -> Iterator[tuple[str, Object]]:
        """All pods and templates of pods, with the names of what makes them."""
        for (kind, name), found in self._objects.items():
            if kind in _PODS_IN:
                pod = found
                for part in _PODS_IN[kind]:
                    pod = pod[part]
                yield f"{kind}/{name}", pod


def containers(pod: Object) -> list[Object]:
    """All containers of a pod, those that run first included."""
    found: list[Object] = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    return found


def environment(container: Object) -> dict[str, Any]:
    """Names and values, or where a value comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", [])}
