"""The chart through the real Helm, which `helm-python-sdk` brings along; no cluster, no network."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def chart_folder() -> Path:
    return Path(__file__).parents[2] / "helm" / "stockroom"
