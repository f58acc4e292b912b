"""Optimistic locking: a change says which versions of a resource it was made for."""

from app.core.problems import PreconditionFailed

Expected = frozenset[int] | None
"""The versions a change was made for; None for whichever is current."""


def require_version(current: int, expected: Expected) -> None:
    """Compare a resource's version, read under a lock, with the ones expected.

    Raises:
        PreconditionFailed: it is none of them.
    """
    if expected is not None and current not in expected:
        raise PreconditionFailed(f'The current version is "{current}".')
