"""The files in which several workers count, so that `/metrics` can add them up: whose they are, and what becomes of them when a worker ends.

prometheus_client writes one for each kind of metric and process. It removes none of a counter's, which would else fall, so that a worker that ends again and
again would fill the memory that they are in. Here what an ended worker has counted is added to one file for all of them.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.core.folders import memory_folder

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus_client finds the folder; it decides when it is imported."""

_PREFIX = "stockroom-metrics-"
_OWNER = "owner"
_LOCK = "lock"
_WAIT_SECONDS = 1.0


def make_folder() -> Path:
    """A new folder for the workers of this server, and the old ones removed of servers that had no time to.

    A container that is restarted finds the memory of the one before it (an emptyDir belongs to the pod).
    """
    for left in Path(memory_folder()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            _remove_unowned(left)
    unowned = Path(tempfile.mkdtemp(prefix="stockroom-new-", dir=memory_folder()))
    # Never closed: the lock is held until the last process of this server has ended.
    owner = os.open(unowned / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(owner, fcntl.LOCK_SH)
    (unowned / _LOCK).touch(0o600)
    # Seen by others only when it has an owner.
    return unowned.rename(unowned.with_name(unowned.name.replace("stockroom-new-", _PREFIX)))


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Within the block no worker's counts are moved: else they would be missed, or counted twice."""
    with _locked(folder, fcntl.LOCK_SH):
        yield


def written(folder: Path) -> list[str]:
    """The files that something is in. One that a worker is just making, or was killed while it made it, is empty, and prometheus_client cannot read that."""
    return [str(file) for file in folder.glob("*.db") if _size(file)]


def forget_own_gauges(folder: Path) -> None:
    """Remove the gauges that this process has by importing their modules: it is no worker, and would be told as an idle one."""
    for file in folder.glob(f"gauge_live*_{os.getpid()}.db"):
        file.unlink()


def forget(folder: Path, process_id: int) -> None:
    """Add what a worker that has ended has counted to the others', and remove what is true of living ones only."""
    from prometheus_client.mmap_dict import MmapedDict
    from prometheus_client.multiprocess import mark_process_dead

    with _locked(folder, fcntl.LOCK_EX):
        mark_process_dead(process_id, str(folder))  # type: ignore[no-untyped-call] # of prometheus_client
        for kind in ("counter", "histogram"):
            file = folder / f"{kind}_{process_id}.db"
            if not _size(file):
                file.unlink(missing_ok=True)
                continue
            ended = MmapedDict(str(folder / f"{kind}_ended.db"))  # type: ignore[no-untyped-call]
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
                ended.write_value(key, ended.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
            ended.close()  # type: ignore[no-untyped-call]
            file.unlink()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    """Hold the lock, or after a second go on without it: nobody shall hang because a process that has it is frozen."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    deadline = time.monotonic() + _WAIT_SECONDS
    try:
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                break
            time.sleep(0.002)
        yield
    finally:
        os.close(descriptor)


def _remove_unowned(folder: Path) -> None:
    """Remove a folder whose server has ended.

    Raises:
        OSError: it has not, or it is somebody else's.
    """
    descriptor = os.open(folder / _OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
