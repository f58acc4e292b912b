"""The lock of a data folder: whoever starts its server takes it, and the server inherits it.

`flock` belongs to the open file, which `initdb`, the postmaster and all its backends inherit. So the lock is held exactly as long as one of
them lives, backends that outlived a killed postmaster included. The kernel lets go of it whatever killed them, and no process id has to be
trusted.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def take(file: Path) -> Iterator[int | None]:
    """Take the lock without waiting; this process lets go at the end of the block, a program that inherited the descriptor keeps it.

    Yields:
        The descriptor to hand on, or None when another process has the lock.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor if _try(descriptor, fcntl.LOCK_EX) else None
    finally:
        os.close(descriptor)


def is_taken(file: Path) -> bool:
    """Whether any process has the lock."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
