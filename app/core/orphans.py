"""Children that end with their parent, even when it is killed."""

import ctypes
import os
import signal
import sys

_VARIABLE = "STOCKROOM_PARENT_PID"
_PR_SET_PDEATHSIG = 1


def child_environment() -> dict[str, str]:
    """What to add to a child's environment so that `end_with_parent` knows whose child it is."""
    return {_VARIABLE: str(os.getpid())}


def end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent that started this process is gone (Linux: prctl(2), PR_SET_PDEATHSIG).

    Does nothing for a process that `child_environment` was not given to. Elsewhere than on Linux a killed parent leaves its children running.
    """
    parent = os.environ.pop(_VARIABLE, None)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        raise SystemExit(1)
