"""Whether this process is draining: told to stop, still answering, asking everybody to go elsewhere."""

_draining = False


def start_draining() -> None:
    """From now on this process is not ready, and every answer says `Connection: close`."""
    global _draining  # noqa: PLW0603 - a process drains as a whole, once
    _draining = True


def is_draining() -> bool:
    """Whether `start_draining` was called."""
    return _draining
