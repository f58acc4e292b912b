"""The open loop: operations begin when they are due, whatever became of those before, and their time counts from that moment."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.exchanges import Answer, Kind, Operation, Request, kind_of
from loadtests.wire import Client, NoConnectionLeftError

LAST_ANSWERS_SECONDS = 12.0
"""How long answers are waited for after the last arrival: longer than a request may be worked on."""

_SPREAD_SECONDS = 0.05


@dataclass(slots=True)
class Outcome:
    """What became of one request; times in seconds from the step's beginning.

    Attributes:
        name: method and route.
        due: when it should have gone out: its arrival, or the answer that it follows.
        is_arrival: whether it is the first of its operation.
        sent: when it did go out; infinity if it never did.
        finished: when its answer was there; infinity if there was none.
        kind: how it counts.
        status: of its answer; 0 without one.
        detail: the beginning of an answer that is an error.
    """

    name: str
    due: float
    is_arrival: bool
    sent: float = float("inf")
    finished: float = float("inf")
    kind: Kind = "error"
    status: int = 0
    detail: str = ""

    @property
    def latency_ms(self) -> float:
        """From when it was due, not from when it was sent."""
        return (self.finished - self.due) * 1000


@dataclass(frozen=True, slots=True)
class Offered:
    """A step that was offered.

    Attributes:
        outcomes: of every request.
        cpu_share: of a core, that the generator used.
    """

    outcomes: list[Outcome]
    cpu_share: float


async def offer(client: Client, due: Sequence[float], operations: Sequence[Operation]) -> Offered:
    """Begin every operation when it is due.

    Args:
        client: sends the requests.
        due: a moment for each operation, in seconds, ascending.
        operations: what to begin.
    """
    offering = _Offering(client)
    began, cpu_began = time.perf_counter(), time.process_time()
    await offering.begin_all(list(zip(due, operations, strict=True)))
    cpu_share = (time.process_time() - cpu_began) / (time.perf_counter() - began)
    await offering.wait()
    return Offered(offering.outcomes, cpu_share)


class _Offering:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._began = time.perf_counter() + _SPREAD_SECONDS
        self._unfinished = 0
        self._all_began = False
        self._over = asyncio.Event()
        self.outcomes: list[Outcome] = []

    def now(self) -> float:
        return time.perf_counter() - self._began

    async def begin_all(self, pairs: Sequence[tuple[float, Operation]]) -> None:
        self._unfinished = len(pairs)
        for moment, operation in pairs:
            if (wait := moment - self.now()) > 0:
                await asyncio.sleep(wait)
            self._go_on(operation, next(operation), moment, is_arrival=True)
        if not pairs:
            self._over.set()

    async def wait(self) -> None:
        try:
            async with asyncio.timeout(LAST_ANSWERS_SECONDS):
                await self._over.wait()
        except TimeoutError:
            self._client.close()
            await asyncio.sleep(0)

    def _go_on(self, operation: Operation, request: Request, due: float, *, is_arrival: bool = False) -> None:
        outcome = Outcome(request.name, due, is_arrival)
        self.outcomes.append(outcome)

        def sent() -> None:
            outcome.sent = self.now()

        def done(answer: Answer) -> None:
            finished = self.now()
            outcome.kind, outcome.status = kind_of(request, answer), answer.status
            if answer.status:
                outcome.finished = finished
            if outcome.kind == "error":
                outcome.detail = answer.body[:300].decode(errors="replace")
            try:
                following = operation.send(answer)
            except StopIteration:
                self._finish_one()
            else:
                self._go_on(operation, following, finished)

        try:
            self._client.start(request, done, sent)
        except NoConnectionLeftError:
            outcome.detail = "dropped: the generator has no connection left"
            operation.close()
            self._finish_one()

    def _finish_one(self) -> None:
        self._unfinished -= 1
        if not self._unfinished:
            self._over.set()
