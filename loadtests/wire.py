"""A client of HTTP/1.1 that costs little: keep-alive connections, one request at a time on each, parsed by httptools."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from loadtests.exchanges import Answer, Request, address_of

MOST_CONNECTIONS = 2000
"""A generator that would need more has lost the race; what arrives then is dropped, and counted."""

_CONNECT_SECONDS = 5.0


class NoConnectionLeftError(Exception):
    """All connections are busy, and there may be no more."""


class Client:
    """Sends requests to one host, each on a connection that is free, in turn, or on a new one.

    Args:
        host: `http://name:port` or `https://…`.
        token: the access token that every request carries; None for none.
        address: where to connect to, if not to the host's name.
    """

    def __init__(self, host: str, token: str | None = None, *, address: str | None = None) -> None:
        parts = address_of(host)
        self._address = address or parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._tls_name = parts.hostname if self._tls else None
        self._prefix = parts.path.rstrip("/")
        self._head = f"Host: {parts.netloc}\r\n" + ("" if token is None else f"Authorization: Bearer {token}\r\n")
        self._free: deque[_Connection] = deque()
        self._all: set[_Connection] = set()
        self._connecting = 0

    async def connect(self, count: int) -> None:
        """Open so many connections beforehand.

        Raises:
            OSError: nobody listens there.
        """
        while len(self._all) < count:
            made = await asyncio.gather(*(self._connect() for _ in range(min(32, count - len(self._all)))))
            self._free.extend(made)

    def start(self, request: Request, done: Callable[[Answer], None], sent: Callable[[], None]) -> None:
        """Send a request, and call `done` with its answer, or with one of status 0; `sent` is called when it goes out, with a connection or to find one.

        Raises:
            NoConnectionLeftError: it cannot go out.
        """
        if self._free:
            # The one that has lain idle longest, so that all take turns: a worker's share is its share of the connections, however low the rate.
            sent()
            self._ask(self._free.popleft(), request, done)
        elif len(self._all) + self._connecting < MOST_CONNECTIONS:
            # It goes out here: if nobody lets it in, that is the server's error and not the generator's.
            sent()
            task = asyncio.ensure_future(self._start_on_a_new_one(request, done))
            self._connecting += 1
            task.add_done_callback(self._connected)
        else:
            raise NoConnectionLeftError

    async def ask(self, request: Request) -> Answer:
        """Send a request and wait for its answer."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.start(request, lambda found: None if answer.done() else answer.set_result(found), lambda: None)
        return await answer

    def close(self) -> None:
        """Drop all connections; what is still unanswered gets an answer of status 0."""
        for connection in list(self._all):
            connection.transport.abort()

    async def _start_on_a_new_one(self, request: Request, done: Callable[[Answer], None]) -> None:
        try:
            connection = await self._connect()
        except (OSError, TimeoutError):
            done(Answer(0, b"no connection"))
        else:
            self._ask(connection, request, done)

    def _connected(self, _: "asyncio.Task[None]") -> None:
        self._connecting -= 1

    async def _connect(self) -> "_Connection":
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self._finished, self._lost), self._address, self._port, ssl=self._tls, server_hostname=self._tls_name
            )
        self._all.add(connection)
        return connection

    def _ask(self, connection: "_Connection", request: Request, done: Callable[[Answer], None]) -> None:
        lines = [f"{request.method} {self._prefix}{request.path} HTTP/1.1\r\n{self._head}"]
        lines += [f"{name}: {value}\r\n" for name, value in request.headers.items()]
        if request.method != "GET":
            lines.append(f"Content-Length: {len(request.body)}\r\n")
        connection.ask("".join(lines).encode() + b"\r\n" + request.body, done)

    def _finished(self, connection: "_Connection", *, reusable: bool) -> None:
        if reusable:
            self._free.append(connection)
        else:
            connection.transport.close()

    def _lost(self, connection: "_Connection") -> None:
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)


class _Connection(asyncio.Protocol):
    """One connection; httptools calls the `on_…` methods."""

    transport: asyncio.Transport

    def __init__(self, finished: Callable[..., None], lost: Callable[["_Connection"], None]) -> None:
        self._finished = finished
        self._lost = lost
        self._parser = httptools.HttpResponseParser(self)
        self._done: Callable[[Answer], None] | None = None
        self._body: list[bytes] = []
        self._retry_after: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, data: bytes, done: Callable[[Answer], None]) -> None:
        self._done, self._body, self._retry_after = done, [], None
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 11 and name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        answer = Answer(self._parser.get_status_code(), b"".join(self._body), self._retry_after)
        self._finished(self, reusable=self._parser.should_keep_alive())
        done(answer)

    def connection_lost(self, _: Exception | None) -> None:
        self._lost(self)
        done, self._done = self._done, None
        if done is not None:
            done(Answer(0, b"connection lost"))
