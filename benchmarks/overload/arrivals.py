"""Open-loop load: requests come when they come, not when the answer before is there, and wait from that moment on."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import uvloop

from benchmarks.overload.figures import percentile

T = TypeVar("T")

CONNECTIONS = 256
_MOST_CONNECTIONS = 5000
_LEAST_SENT = 0.98
_LAST_ANSWERS_SECONDS = 11.0
"""How long after the last arrival answers are waited for: longer than a request may be worked on."""


@dataclass(slots=True)
class Answer:
    """One arrival, in seconds since the first; the status is 0 as long as there is no answer, and for good when its connection was lost."""

    due: float
    sent: float = float("inf")
    finished: float = float("inf")
    status: int = 0

    @property
    def latency_ms(self) -> float:
        """From when it was due, not from when it was sent."""
        return (self.finished - self.due) * 1000


@dataclass(frozen=True, slots=True)
class Step:
    """Some seconds at one rate. Its first second is not counted.

    Args:
        rate: offered, a second.
        seconds: from the first arrival to the last.
        answers: to every arrival.
    """

    rate: float
    seconds: float
    answers: list[Answer]

    @property
    def is_void(self) -> bool:
        """Whether the client could not send what it wanted to offer."""
        return sum(answer.sent <= self.seconds + 0.1 for answer in self.answers) < _LEAST_SENT * len(self.answers)

    @property
    def goodput(self) -> float:
        """Requests served a second."""
        return sum(_is_good(answer) and 1 <= answer.finished < self.seconds for answer in self.answers) / (self.seconds - 1)

    @property
    def refused(self) -> float:
        """The share of requests that were not served."""
        counted = [answer for answer in self.answers if answer.due >= 1]
        return sum(not _is_good(answer) for answer in counted) / len(counted)

    def latency_ms(self, percent: float) -> float:
        """A percentile of the served requests' times."""
        return percentile([answer.latency_ms for answer in self.answers if answer.due >= 1 and _is_good(answer)], percent)


def offer(
    port: int, make: Callable[[int], Sequence[bytes]], *, rate: float, seconds: float, seed: int, beside: Callable[[], Awaitable[T]]
) -> tuple[Step, T]:
    """Offer requests at a rate, in a Poisson process; each goes out on a connection that is free, or on a new one.

    Args:
        port: where to.
        make: makes so many requests.
        rate: a second.
        seconds: for how long.
        seed: of the process.
        beside: what else to do meanwhile; cancelled at the end if it is not done, and must return then.
    """
    chance = random.Random(seed)
    due, at = [], chance.expovariate(rate)
    while at < seconds:
        due.append(at)
        at += chance.expovariate(rate)
    answers = [Answer(moment) for moment in due]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        other = runner.run(_Offering(port, answers, make(len(answers))).run(beside))
    return Step(rate, seconds, answers), other


class _Offering:
    def __init__(self, port: int, answers: list[Answer], requests: Sequence[bytes]) -> None:
        self._port = port
        self._pairs = list(zip(answers, requests, strict=True))
        self._unanswered = len(answers)
        self._free: deque[_Connection] = deque()
        self._all: set[_Connection] = set()
        self._began = 0.0
        self._over = asyncio.Event()

    async def run(self, beside: Callable[[], Awaitable[T]]) -> T:
        for _ in range(8):
            await asyncio.gather(*(self._connect() for _ in range(CONNECTIONS // 8)))
        other = asyncio.ensure_future(beside())
        self._began = time.perf_counter() + 0.05
        await self._send_all()
        try:
            async with asyncio.timeout(_LAST_ANSWERS_SECONDS):
                await self._over.wait()
        except TimeoutError:
            pass
        other.cancel()
        for connection in self._all:
            connection.transport.abort()
        return await other

    async def _send_all(self) -> None:
        connecting: set[asyncio.Task[None]] = set()
        for answer, request in self._pairs:
            if (wait := answer.due - self.now()) > 0:
                await asyncio.sleep(wait)
            if self._free:
                self._free.popleft().ask(answer, request)
            elif len(self._all) + len(connecting) < _MOST_CONNECTIONS:
                task = asyncio.create_task(self._ask_on_a_new_one(answer, request))
                connecting.add(task)
                task.add_done_callback(connecting.discard)
            else:
                self.done(None)

    async def _ask_on_a_new_one(self, answer: Answer, request: bytes) -> None:
        try:
            connection = await self._connect()
        except OSError:
            self.done(None)
        else:
            self._free.remove(connection)
            connection.ask(answer, request)

    async def _connect(self) -> "_Connection":
        _, connection = await asyncio.get_running_loop().create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        self._all.add(connection)
        self._free.append(connection)
        return connection

    def now(self) -> float:
        return time.perf_counter() - self._began

    def done(self, connection: "_Connection | None") -> None:
        if connection is not None:
            self._free.append(connection)
        self._unanswered -= 1
        if not self._unanswered:
            self._over.set()

    def lost(self, connection: "_Connection", *, while_busy: bool) -> None:
        self._all.discard(connection)
        if while_busy:
            self.done(None)
        elif connection in self._free:
            self._free.remove(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, offering: _Offering) -> None:
        self._offering = offering
        self._answer: Answer | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, answer: Answer, request: bytes) -> None:
        self._answer = answer
        answer.sent = self._offering.now()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._answer is not None and is_whole(self._received):
            self._answer.finished = self._offering.now()
            self._answer.status = int(self._received[9:12])
            self._answer, self._received = None, b""
            self._offering.done(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._offering.lost(self, while_busy=self._answer is not None)


def is_whole(received: bytes) -> bool:
    """Whether an answer with a Content-Length has arrived."""
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    head = received[: head_end + 2].lower()
    at = head.index(b"content-length:") + 15
    return len(received) >= head_end + 4 + int(head[at : head.index(b"\r\n", at)])


def _is_good(answer: Answer) -> bool:
    return 200 <= answer.status < 300
