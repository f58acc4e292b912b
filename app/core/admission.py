"""Admission: as many requests at once as can be served in time. What cannot be served soon is refused while that still costs next to nothing.

Requests in flight are the arrival rate times the time in the service (Little's law), so bounding the number bounds the time.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from math import inf

import structlog

from app.capacity.model import Plan
from app.core.metrics import ADMISSION_LATE_REFUSALS_TOTAL, ADMISSION_REFUSALS_TOTAL
from app.core.problems import MEDIA_TYPE, Overloaded

_log = structlog.get_logger()

_BURST_SECONDS = 1.0
_TOO_MANY = "More requests are in flight than this process can serve in time."


class Admission:
    """Counts the requests that are being worked on, and refuses one too many. Used as a context manager around the work.

    A request is worked on from when its body has arrived until its answer is made: who sends or reads slowly takes nobody's place.

    A burst may take all places, for it is worked off soon. A queue that stands serves nobody sooner and makes all wait (RFC 8289 section 3.1): when there
    have been `standing` requests for a second, no more than these are admitted, until there have been fewer for as long, or so
    few that none of them waits.

    Args:
        limit: the most at once.
        standing: the most for longer; as many unless given.
        served: so many are worked on at once, the others wait; with 0 a queue is over only when nobody is in flight.
    """

    def __init__(self, limit: int, *, standing: int | None = None, served: int = 0) -> None:
        self.limit = limit
        self.standing = limit if standing is None else standing
        self._served = served
        self.in_flight = 0
        self.refusals = Refusals(_TOO_MANY)
        # When the standing limit was reached, and when there were last fewer; seconds of the monotonic clock.
        self._crowded_since = self._left_at = -inf
        self.admitted = 0

    @classmethod
    def of(cls, plan: Plan) -> "Admission":
        """For a pool's connections and those who may wait for one."""
        served = plan.pool_size
        return cls(served + plan.waiters_per_worker, standing=served + plan.standing_waiters_per_worker, served=served)

    def is_full(self, coming: int = 0) -> bool:
        """Whether the next one would be refused.

        Args:
            coming: how many are admitted already and not yet counted.
        """
        requests = self.in_flight + coming
        if requests >= self.limit:
            return True
        if requests < self.standing:
            return False
        now = time.monotonic()
        is_crowd = self.in_flight >= self.standing or now - self._left_at <= _BURST_SECONDS
        return is_crowd and now - self._crowded_since > _BURST_SECONDS

    def __enter__(self) -> None:
        """Take a place.

        Raises:
            Overloaded: there is none.
        """
        if self.is_full():
            self.refusals.count()
            ADMISSION_LATE_REFUSALS_TOTAL.inc()
            raise Overloaded(_TOO_MANY)
        self.admitted += 1
        self._enter()

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._leave()

    def _enter(self) -> None:
        self.in_flight += 1
        if self.in_flight == self.standing and (now := time.monotonic()) - self._left_at > _BURST_SECONDS:
            self._crowded_since = now

    def _leave(self) -> None:
        if self.in_flight == self.standing:
            self._left_at = time.monotonic()
        self.in_flight -= 1
        if self.in_flight == self._served:
            # Worked off: what comes next is another burst. Not at half of it: a process that the kernel throttles gets there in each period though the
            # queue stands.
            self._left_at = -inf

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Give a place back for as long as the block runs: what is waited for there has a bound of its own."""
        self._leave()
        try:
            yield
        finally:
            self._enter()


class Refusals:
    """What those are told who are refused early, counted. A log line a second: one each would cost as much as the answer.

    Args:
        detail: what there is too much of, for the problem object.
        retry_after_seconds: values of `Retry-After`, given out in turn, so that not all come again at the same time.
    """

    def __init__(self, detail: str, *, retry_after_seconds: Sequence[int] = (1,)) -> None:
        problems = [Overloaded(detail, retry_after_seconds=seconds) for seconds in retry_after_seconds]
        # Made once but for two values, which need no escapes: a path is percent-encoded, and ids have few kinds of characters.
        self._body = problems[0].body(path="%b", request_id="%b").replace(b"%25b", b"%b")
        self._headers = cycle([[(b"content-type", MEDIA_TYPE.encode()), *_encoded(problem.headers)] for problem in problems])
        self._detail = detail
        self._unlogged = 0
        self._logged_at = 0.0

    def next_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of the answer; its length, the request's id and what concerns CORS and the connection are for whoever sends it."""
        return next(self._headers)

    def next_body(self, path: bytes, request_id: bytes) -> bytes:
        """The problem object of one more refusal.

        Args:
            path: the request's, percent-encoded (`problems.quoted`).
            request_id: a well-formed one.
        """
        self.count()
        return self._body % (path, request_id)

    def count(self) -> None:
        """Count one, and say so in the log if it is time."""
        ADMISSION_REFUSALS_TOTAL.inc()
        self._unlogged += 1
        if (now := time.monotonic()) - self._logged_at >= 1:
            _log.warning("requests_refused", problem=Overloaded.name, detail=self._detail, requests=self._unlogged)
            self._unlogged, self._logged_at = 0, now


def _encoded(headers: Mapping[str, str]) -> Iterator[tuple[bytes, bytes]]:
    return ((name.lower().encode(), value.encode()) for name, value in headers.items())
