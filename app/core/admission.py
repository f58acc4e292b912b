"""Admission: as many requests at once as can be served in time. What cannot be served soon is refused while that still costs next to nothing.

Requests in flight are the arrival rate times the time in the service (Little's law), so bounding the number bounds the time.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from app.core.metrics import ADMISSION_REFUSALS_TOTAL
from app.core.problems import MEDIA_TYPE, Overloaded

_log = structlog.get_logger()


class Admission:
    """Counts the requests that are being worked on, and refuses one too many. Used as a context manager around the work.

    A request is worked on from when its body has arrived until its answer is made: who sends or reads slowly takes nobody's place.

    Args:
        limit: the most at once: the pool's connections, and those who may wait for one.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self.refusals = Refusals()

    @property
    def is_full(self) -> bool:
        """Whether the next one would be refused."""
        return self.in_flight >= self.limit

    def __enter__(self) -> None:
        """Take a place.

        Raises:
            Overloaded: there is none.
        """
        if self.is_full:
            raise _overloaded()
        self.in_flight += 1

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


class Refusals:
    """What those are told who are refused early, counted. A log line a second: one each would cost as much as the answer.

    Attributes:
        headers: of the answer; its length, the request's id and what concerns CORS and the connection are for whoever sends it.
    """

    def __init__(self) -> None:
        problem = _overloaded()
        # Made once but for two values, which need no escapes: a path is percent-encoded, and ids have few kinds of characters.
        self._body = problem.body(path="%b", request_id="%b").replace(b"%25b", b"%b")
        self.headers = [(b"content-type", MEDIA_TYPE.encode())]
        self.headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        self._unlogged = 0
        self._logged_at = 0.0

    def next_body(self, path: bytes, request_id: bytes) -> bytes:
        """The problem object of one more refusal.

        Args:
            path: the request's, percent-encoded (`problems.quoted`).
            request_id: a well-formed one.
        """
        ADMISSION_REFUSALS_TOTAL.inc()
        self._unlogged += 1
        if (now := time.monotonic()) - self._logged_at >= 1:
            _log.warning("requests_refused", problem=Overloaded.name, requests=self._unlogged)
            self._unlogged, self._logged_at = 0, now
        return self._body % (path, request_id)


def _overloaded() -> Overloaded:
    return Overloaded("More requests are in flight than this process can serve in time.")
