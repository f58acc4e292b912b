"""Where short-lived files go."""

import os
import tempfile


def memory_folder() -> str:
    """A folder in memory, which no slow disk blocks and which containers have with a read-only root filesystem too; elsewhere the temporary one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()  # noqa: S108
