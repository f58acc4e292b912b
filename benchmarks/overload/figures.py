"""What the parts of the run have in common: where they run, and what they find."""

import math
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console

from app.core.embedded import EmbeddedPostgres


@dataclass(frozen=True, slots=True)
class Figure:
    """One finding.

    Args:
        name: for the table.
        value: what was measured; the median where there are rounds.
        without: the same without admission, where that is asked.
        at_most: the limit, of figures that have one.
        at_least: the other kind of limit.
        unit: of all of these.
        rounds: what each round found.
    """

    name: str
    value: float
    without: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""
    rounds: tuple[float, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether a limit is passed; a figure that could not be measured passes it."""
        too_large = self.at_most is not None and not self.value <= self.at_most
        too_small = self.at_least is not None and not self.value >= self.at_least
        return too_large or too_small


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the parts run: what has one core on the first, what has several on all; the client and PostgreSQL on the others.

    Args:
        database: a shop, and the administrator.
        environment: variables of a server with one worker.
        quota: a control group with `QUOTA_PERCENT` of a core; None where none can be made.
        ids: of products.
        skus: of their variants.
    """

    database: EmbeddedPostgres
    environment: dict[str, str]
    quota: Path | None
    console: Console
    ids: list[str] = field(default_factory=list)
    skus: list[str] = field(default_factory=list)
    cores: frozenset[int] = frozenset(os.sched_getaffinity(0))

    def variables(self, **settings: Any) -> dict[str, str]:
        """The environment with other settings."""
        return {**self.environment, **{f"APP_{name.upper()}": str(value) for name, value in settings.items()}}


QUOTA_PERCENT = 30
_AWAKE = Path("/dev/cpu_dma_latency")
_PERIOD_US = 100_000
"""The kernel's default, and Kubernetes'. Shorter ones cost: each stop leaves colder caches behind (docs/decisions/0014)."""


@contextmanager
def cpu_quota(percent: int = QUOTA_PERCENT) -> Iterator[Path | None]:
    """A control group with so much of a core, as its `cgroup.procs`; None where none can be made.

    It has the least weight: on a core that they share, the client and PostgreSQL go first, which stand for machines of their own.
    """
    quota_us = _PERIOD_US * percent // 100
    of_v1 = {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": str(quota_us), "cpu.shares": "2"}
    of_v2 = {"cpu.max": f"{quota_us} {_PERIOD_US}", "cpu.weight": "1"}
    v1, v2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    group = (v1 if v1.exists() else v2) / f"stockroom-bench-{uuid4().hex[:8]}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        try:
            for file, value in (of_v1 if v1.exists() else of_v2).items():
                (group / file).write_text(value)
        except OSError:
            yield None
        else:
            yield group / "cgroup.procs"
    finally:
        group.rmdir()


@contextmanager
def off_the_first_core() -> Iterator[int]:
    """Leave the first core, which is given, to what is measured: this process and what it starts have the others, where there are any."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)
    try:
        yield cores[0]
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def awake_cores() -> Iterator[bool]:
    """Let cores that have nothing to do spin rather than sleep (the kernel's PM QoS interface); whether that was possible.

    On a virtual machine to wake one up takes the hypervisor, and finds the caches cold: a request to an idle server costs twice the CPU that one to a busy
    server does, and what is compared would be how idle the server was.
    """
    with ExitStack() as stack:
        try:
            # For as long as it is open.
            stack.enter_context(_AWAKE.open("wb", buffering=0)).write(struct.pack("i", 0))
            awake = True
        except OSError:
            awake = False
        yield awake


def percentile(values: list[float], percent: float) -> float:
    """The value that so many percent of them do not exceed (nearest rank); NaN of none."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)] if values else math.nan


median = partial(percentile, percent=50)
