"""What `/metrics` says: what this process, or all workers of this server, have counted, and what is found out at a scrape."""

import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, REGISTRY, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app import __version__
from app.core import metric_files

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

BUILD_INFO = "stockroom_build_info"
BUILD_INFO_HELP = "1, with what runs here: the version, of which component (`api` or `worker`), on which Python."


def exposed(found: Iterable[Metric]) -> bytes:
    """The text.

    Args:
        found: what was found out for this scrape.
    """
    folder = os.environ.get(metric_files.VARIABLE)
    if folder is None:
        counted = generate_latest(REGISTRY)
    else:
        with metric_files.reading(Path(folder)):
            counted = generate_latest(_Counted(folder))
    return counted + generate_latest(_Found(found))


def build_info(component: str) -> Metric:
    """Which version runs here."""
    metric = Metric(BUILD_INFO, BUILD_INFO_HELP, "gauge")
    metric.add_sample(BUILD_INFO, {"version": __version__, "component": component, "python": platform.python_version()}, 1.0)
    return metric


class _Counted(Collector):
    def __init__(self, folder: str) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        merged: Iterable[Metric] = MultiProcessCollector.merge(metric_files.written(Path(self._folder)))  # type: ignore[no-untyped-call]
        return merged


class _Found(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics
