"""Draining: still answering, not ready, and asking everybody to go elsewhere, because the end is near.

SIGTERM tells one process, and `stockroom drain` all of a server's, through a file in memory that each of them looks into. A file, because it reaches a
worker that starts this moment too, needs no process id that may be another's by now, and nobody but the server's own user can open it.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from app.core.folders import memory_folder

_draining = False


def start_draining() -> None:
    """From now on this process is not ready, and every answer says `Connection: close`."""
    global _draining  # noqa: PLW0603 - a process drains as a whole, once
    _draining = True


def is_draining() -> bool:
    """Whether `start_draining` was called."""
    return _draining


def open_order(port: int) -> int:
    """Make the file through which the server that listens on a port is told to drain. It is locked for as long as the descriptor is open in any process.

    Raises:
        OSError: it cannot be made, is somebody else's, or another server of this user on that port has it.
    """
    descriptor = os.open(_order_file(port), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError("it belongs to another user")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 0:
            raise FileNotFoundError("a server that was ending has just removed it")
        os.ftruncate(descriptor, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove_order(port: int) -> None:
    """Remove the file, when the server that has it ends."""
    Path(_order_file(port)).unlink(missing_ok=True)


def is_ordered(descriptor: int) -> bool:
    """Whether `order_draining` was called for the server that has this descriptor."""
    return os.pread(descriptor, 1, 0) != b""


def order_draining(port: int) -> bool:
    """Tell all processes of the server on a port; they start within a moment.

    Returns:
        Whether there is one: a server of this user, on this machine or in this container.
    """
    with suppress(FileNotFoundError, PermissionError):
        descriptor = os.open(_order_file(port), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.pwrite(descriptor, b"\n", 0)
            return True
        finally:
            os.close(descriptor)
    return False


def _order_file(port: int) -> str:
    return f"{memory_folder()}/stockroom-{os.geteuid()}-{port}.drain"
