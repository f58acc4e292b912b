"""Admission: as many requests at once as can be served in time. What cannot be served soon is refused while that still costs next to nothing.

Requests in flight are the arrival rate times the time in the service (Little's law), so bounding the number bounds the time.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from app.core.problems import Overloaded


class Admission:
    """Counts the requests that are being worked on, and refuses one too many. Used as a context manager around the work.

    A request is worked on from when its body has arrived until its answer is made: who sends or reads slowly takes nobody's place.

    Args:
        limit: the most at once: the pool's connections, and those who may wait for one.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self.admitted = 0

    @property
    def is_full(self) -> bool:
        """Whether the next one would be refused."""
        return self.in_flight >= self.limit

    def __enter__(self) -> None:
        """Take a place.

        Raises:
            Overloaded: there is none.
        """
        if self.in_flight >= self.limit:
            raise overloaded()
        self.in_flight += 1
        self.admitted += 1

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self.in_flight -= 1

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Give a place back for as long as the block runs: what is waited for there has a bound of its own."""
        self.in_flight -= 1
        try:
            yield
        finally:
            self.in_flight += 1


def overloaded() -> Overloaded:
    """What the one too many is told."""
    return Overloaded("More requests are in flight than this process can serve in time.")
