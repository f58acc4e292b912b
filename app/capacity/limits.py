"""The CPU and memory that this process may use, and where that is written.

Python does not tell: `os.cpu_count` knows the machine and `os.sched_getaffinity` the cpuset, while a container's limit is a quota of its
control group (Linux kernel documentation, "Control Group v2" and "CFS Bandwidth Control").
"""

import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit and its source.

    Attributes:
        value: in the unit that the name of the function gives.
        source: where it is written, for messages.
        is_set: whether somebody set it; else it is what the machine has.
    """

    value: int
    source: str
    is_set: bool = True


def cpu_limit_millicores(override: str | None = None, *, name: str = "APP_CPU_LIMIT", root: Path = Path("/")) -> Limit:
    """Return the CPU limit of this process; 1000 is one core.

    Taken from the first that says something: the override, the tightest `cpu.max` of cgroup v2 from the process's own group up to the root,
    the tightest `cpu.cfs_quota_us / cpu.cfs_period_us` of cgroup v1 likewise, the CPUs the process may be scheduled on. A file that cannot
    be read or understood says nothing.

    Args:
        override: what to take instead, as Kubernetes writes it: `2`, `0.5`, `1500m`.
        name: where that is from.
        root: the folder in which `proc` and `sys` are found.

    Raises:
        ValueError: the override is not a quantity above zero.
    """
    if override is not None:
        return Limit(_quantity(name, override, unit=Decimal("0.001")), f"{name}={override}")
    return (
        _tightest(_own_groups(root, ""), "cpu.max", _cpu_max)
        or _tightest(_own_groups(root, "cpu"), "cpu.cfs_quota_us", _cfs_quota)
        or _schedulable_cpus()
    )


def memory_limit_bytes(override: str | None = None, *, root: Path = Path("/")) -> Limit:
    """Return the memory limit of this process in bytes.

    Taken from the first that says something: the override, the tightest `memory.max` of cgroup v2 from the process's own group up to the
    root, the tightest `memory.limit_in_bytes` of cgroup v1 likewise, the machine's memory. A file that cannot be read or understood says
    nothing.

    Args:
        override: what to take instead, as Kubernetes writes it: `512Mi`, `1.5Gi`, `1G`. There is no setting for it.
        root: the folder in which `proc` and `sys` are found.

    Raises:
        ValueError: the override is not a quantity above zero.
    """
    if override is not None:
        return Limit(_quantity("the memory limit", override, unit=Decimal(1)), f"given as {override}")
    return (
        _tightest(_own_groups(root, ""), "memory.max", _bytes)
        or _tightest(_own_groups(root, "memory"), "memory.limit_in_bytes", _bytes)
        or Limit(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "physical memory", is_set=False)
    )


@dataclass(frozen=True, slots=True)
class Throttling:
    """How often the kernel has held a control group back because its CPU quota was used up.

    Attributes:
        periods: in how many periods, so far.
        seconds: for how long, all CPUs together, so far.
    """

    periods: int
    seconds: float


def cpu_throttling(*, root: Path = Path("/")) -> Throttling | None:
    """Return what `cpu.stat` tells, of this process's group or the one around it that was held back most; None where nothing is told.

    Args:
        root: the folder in which `proc` and `sys` are found.
    """
    groups = [*_own_groups(root, ""), *_own_groups(root, "cpu")]
    found = [throttling for group in groups if (throttling := _cpu_stat(group / "cpu.stat")) is not None]
    return max(found, key=lambda throttling: throttling.seconds, default=None)


_SUFFIXES = {"m": Decimal("0.001"), "": Decimal(1)}
_SUFFIXES |= {letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)}
_SUFFIXES |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}

_NO_LIMIT_BYTES = 2**60
"""Cgroup v1 writes "no limit" as the largest multiple of the page size in 63 bits; nothing real is that large."""

_Reader = Callable[[Path], int | None]


def _quantity(name: str, text: str, *, unit: Decimal) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|[KMGTPE]i|[kMGTPE]|)", text.strip(), re.ASCII)
    value = int(Decimal(match[1]) * _SUFFIXES[match[2]] / unit) if match else 0
    if value < 1:
        raise ValueError(
            f"{name} is {text!r}: write it as Kubernetes does, above zero, for example 2, 0.5 or 1500m for CPU, 512Mi or 1G for memory"
        )
    return value


def _own_groups(root: Path, controller: str) -> Iterable[Path]:
    """Folders of the process's own group and of those around it, nearest first: of a v1 controller, or of v2, whose line names none."""
    mounted_as, path = controller, ""
    for controllers, own_path in re.findall(r"^[0-9]+:([^:/\n]*):/(.*)$", _read(root / "proc/self/cgroup"), re.MULTILINE):
        if controller in controllers.split(","):
            mounted_as, path = controllers, own_path
    own = PurePosixPath(path.lstrip("/"))
    # A path with ".." lies outside of this cgroup namespace: only the namespace's root can be seen.
    groups = [PurePosixPath()] if ".." in own.parts else [own, *own.parents]
    return [root / "sys/fs/cgroup" / mount / group for mount in dict.fromkeys((mounted_as, controller)) for group in groups]


def _tightest(groups: Iterable[Path], file_name: str, read_limit: _Reader) -> Limit | None:
    files = [group / file_name for group in groups]
    limits = [Limit(value, str(file)) for file in files if (value := read_limit(file)) is not None]
    return min(limits, key=lambda limit: limit.value, default=None)


def _cpu_max(file: Path) -> int | None:
    quota_us, _, period_us = _read(file).strip().partition(" ")
    return _millicores(quota_us, period_us)


def _cfs_quota(file: Path) -> int | None:
    return _millicores(_read(file), _read(file.with_name("cpu.cfs_period_us")))


def _millicores(quota_us: str, period_us: str) -> int | None:
    quota, period = _positive(quota_us), _positive(period_us)
    return max(1, quota * 1000 // period) if quota and period else None


def _cpu_stat(file: Path) -> Throttling | None:
    told = dict(re.findall(r"^(\w+) ([0-9]{1,19})$", _read(file), re.MULTILINE))
    if "nr_throttled" not in told:
        return None
    # Microseconds in v2, nanoseconds in v1.
    seconds = int(told["throttled_usec"]) / 1e6 if "throttled_usec" in told else int(told.get("throttled_time", 0)) / 1e9
    return Throttling(int(told["nr_throttled"]), seconds)


def _bytes(file: Path) -> int | None:
    limit = _positive(_read(file))
    return limit if limit and limit < _NO_LIMIT_BYTES else None


def _positive(text: str) -> int | None:
    """The number, or None for `max`, -1, 0 and everything that is not a number the kernel would write."""
    return int(text) or None if re.fullmatch(r"[0-9]{1,19}", text.strip(), re.ASCII) else None


def _schedulable_cpus() -> Limit:
    if sys.platform == "linux":
        return Limit(1000 * len(os.sched_getaffinity(0)), "CPU affinity", is_set=False)
    return Limit(1000 * (os.cpu_count() or 1), "CPU count", is_set=False)


def _read(file: Path) -> str:
    """The file's text, or nothing: a missing or garbled file must not keep a pod from starting."""
    try:
        return file.read_text("utf-8", "surrogateescape")
    except (OSError, ValueError):
        return ""
