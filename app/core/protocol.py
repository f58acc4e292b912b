"""uvicorn's HTTP protocol, with an end to everything that a client can begin: a head, a body, a queue of requests, an answer.

What cannot be understood or takes too long is refused with problem+json like everything else. No timers: the server looks at its connections a few times
a second (`LimitedProtocol.check`), and a request pays for a few assignments.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from secrets import token_hex
from typing import Any, Literal, cast

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.core.config import Settings
from app.core.door import Door
from app.core.metrics import REFUSALS_TOTAL, UNHANDLED_ERRORS_TOTAL
from app.core.problems import MEDIA_TYPE, BadRequest, HeadersTooLarge, PayloadTooLarge, Problem, RequestTimeout, TooManyRequests
from app.core.transport import StagedTransport

MAX_HEAD_BYTES = 32 * 1024
"""Of the request line and the headers together, and of the trailers behind a body."""

MAX_HEADERS = 100
MAX_QUEUED_REQUESTS = 100
"""Pipelined behind one that is still worked on (RFC 9112 section 9.3.2)."""

MAX_DROPPED_BYTES = 64 * 1024 * 1024
"""Of what a client still sends when all is said. Who reads only after it has sent that much may miss why."""

_LINGER_SECONDS = 2.0
# struct linger of socket(7): on, and for no time.
_RESET = struct.pack("ii", 1, 0)

_log = structlog.get_logger()


# silent: nothing of a request has come yet. head, body: a part of it has begun. done: whole requests have come, and are worked on or answered.
# refused: nothing more is read, what came before is still answered. closing: all is said, and what still comes is dropped.
_State = Literal["silent", "head", "body", "done", "refused", "closing"]


class LimitedProtocol(HttpToolsProtocol):
    """One connection. Its limits are in the application's `state.settings`, and `state.door` says who is turned away."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.app = _ending_quietly(self.app)
        state = cast("Any", self.config.app).state
        self._settings: Settings = state.settings
        self._door: Door = state.door
        self._state: _State = "silent"
        self._since = self._sent_at = self.loop.time()
        self._unsent_bytes = 0
        self._fed_bytes = 0
        # Of whole feeds since the head began, or since the last part of the body.
        self._idle_bytes = 0
        self._body_bytes = 0
        self._dropped_bytes = 0
        self._refusal: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """A client is here."""
        super().connection_made(cast("asyncio.Transport", StagedTransport(transport, self._close)))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        # uvicorn tells only the last of several pipelined requests; what the others still answer goes nowhere.
        cast("StagedTransport", self.transport).drop_answers()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._unset_keepalive_if_required()
        while data and self._state not in ("refused", "closing"):
            data = self._parse(data)
        if self._state == "closing":
            self._dropped_bytes += len(data)
            if self._dropped_bytes > MAX_DROPPED_BYTES:
                self.transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override] # uvicorn's own never stays
        """The client says no more, but may still read (RFC 9293 section 3.6); returns whether there is something to tell it."""
        if self._state == "done" and not self._is_answered:
            self.cycle.keep_alive = False
            return True
        return self._state == "refused"

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._enter("head")
        self._idle_bytes = -self._fed_bytes

    def on_headers_complete(self) -> None:
        """The head is here.

        Raises:
            Problem: it is not one to work on; the parser stops with it.
        """
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise BadRequest("CONNECT is for proxies, and this is none.")
            return
        # A head that came at once, and in little, cannot be too large.
        if (self._idle_bytes >= 0 or self._fed_bytes > MAX_HEAD_BYTES) and self._head_bytes() > MAX_HEAD_BYTES:
            raise _too_many_bytes()
        if len(self.headers) > MAX_HEADERS:
            raise _too_many_headers()
        self._check_host()
        self._check_length()
        if self._door.is_closed and self._turn_away():
            return
        if len(self.pipeline) >= MAX_QUEUED_REQUESTS:
            raise TooManyRequests(f"More than {MAX_QUEUED_REQUESTS} requests wait on this connection.", retry_after_seconds=1)
        if self._is_answered:
            self._door.let_in(self.loop)
        try:
            super().on_headers_complete()
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError, AttributeError):
            # The last is uvicorn's for an address without a path.
            raise BadRequest("The address in the request line cannot be read.") from None
        # uvicorn names its own class where it makes one; this spares us a copy of all that stands around it.
        self.cycle.__class__ = _Cycle
        # Trailers are not headers (RFC 9110 section 6.5.1): the parser gives them to the same callback.
        self.headers = []
        self._enter("body")
        self._idle_bytes = -self._fed_bytes
        self._body_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A part of the body.

        Raises:
            PayloadTooLarge: it makes the body too large; the parser stops with it.
        """
        self._body_bytes += len(body)
        if self._body_bytes > self._settings.max_body_bytes:
            raise self._too_large()
        super().on_body(body)
        self._idle_bytes = -self._fed_bytes

    def on_message_complete(self) -> None:
        """The request's last byte."""
        if self._state == "body":
            super().on_message_complete()
            self._enter("done")

    def on_response_complete(self) -> None:
        """An answer is handed over."""
        super().on_response_complete()
        if self._refusal is not None:
            self._send_refusal(self._refusal)

    def shutdown(self) -> None:
        """End after what has been begun, a request whose head is only partly here included."""
        if self._state != "head":
            super().shutdown()

    def check(self, now: float) -> None:
        """End what takes too long; to be called a few times a second. It raises nothing, because those that are checked after it need their limits too.

        Args:
            now: the event loop's time.
        """
        try:
            self._check(now)
        except Exception:  # noqa: BLE001 - whatever it is, it is of one connection
            UNHANDLED_ERRORS_TOTAL.labels("unmatched").inc()
            _log.exception("connection_check_failed")
            # It would have no limits.
            self.transport.abort()

    def _check(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if self._unsent_bytes == 0 or unsent < self._unsent_bytes:
            self._sent_at = now
        self._unsent_bytes = unsent
        if now - self._sent_at > self._settings.send_timeout_seconds:
            self._report("unread", self._request_id())
            # Else the kernel would keep what is unsent, and try for minutes to send it.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        elif self.flow.read_paused or (unsent and self._state == "closing"):
            # It is for us to go on.
            self._since = now
        else:
            self._check_waiting(now - self._since)

    def _check_waiting(self, seconds: float) -> None:
        match self._state:
            case "silent" if seconds > self._settings.head_timeout_seconds:
                REFUSALS_TOTAL.labels("silent").inc()
                self.transport.close()
            case "head" if seconds > (limit := self._settings.head_timeout_seconds):
                self._refuse(RequestTimeout(f"The request line and the headers did not arrive within {limit:g} seconds."))
            case "body" if seconds > (limit := self._settings.body_timeout_seconds):
                self._refuse(RequestTimeout(f"The body did not arrive within {limit:g} seconds."))
            case "done" if seconds > self.timeout_keep_alive and self.timeout_keep_alive_task is None and self._is_answered:
                # uvicorn sets its timer after an answer, and forgets it when anything comes: the rest of a body, an empty line.
                self.transport.close()
            case "closing" if seconds > _LINGER_SECONDS:
                self.transport.abort()

    def _enter(self, state: _State) -> None:
        self._state = state
        self._since = self.loop.time()

    def _parse(self, data: bytes) -> bytes:
        """Feed the parser; returns what is to be parsed anew."""
        self._fed_bytes = len(data)
        try:
            self.parser.feed_data(data)
            if self._state != "done":
                self._idle_bytes += len(data)
                self._check_size()
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade() + data[upgrade.args[0] :]
        except Problem as problem:
            self._refuse(problem)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, Problem):
                raise
            self._refuse(error.__context__)
        except httptools.HttpParserInvalidMethodError:
            # The parser tells no more: 501 (RFC 9110 section 15.6.2) would be wrong for bytes that are no HTTP at all.
            self._refuse(BadRequest("This does not begin with a method that is known here, as HTTP/1.1 requests do."))
        except httptools.HttpParserError as error:
            self._refuse(BadRequest(f"This is not HTTP/1.1 as RFC 9112 has it: {error}."))
        return b""

    def _turn_away(self) -> bool:
        """Answer for the application that there is no place for a request; returns whether it is one that can be answered so."""
        stays = self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1" and not self.flow.write_paused
        if not (stays and self._is_answered and self.parser.get_method() == b"GET"):
            return False
        refusal = self._door.refusal(self.url, self.headers, self.server_state.default_headers)
        if refusal is None:
            return False
        self.transport.write(refusal)
        self.server_state.total_requests += 1
        # Without uvicorn's timer: `check` ends what is idle for too long as well.
        self._enter("done")
        return True

    def _check_size(self) -> None:
        # Only the parser knows a header whose end has not come yet.
        if self._idle_bytes > MAX_HEAD_BYTES or (self._state == "head" and self._head_bytes() > MAX_HEAD_BYTES):
            raise _too_many_bytes()
        if self._state != "silent" and len(self.headers) > MAX_HEADERS:
            raise _too_many_headers()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _check_host(self) -> None:
        hosts = [name for name, _ in self.headers].count(b"host")
        # RFC 9112 section 3.2: what a proxy before us understood may not be left to chance.
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise BadRequest("Send one Host header.")

    def _check_length(self) -> None:
        # The parser has seen that there is at most one, and that it is a number.
        if int(dict(self.headers).get(b"content-length", 0)) > self._settings.max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> Problem:
        return PayloadTooLarge(f"The body is larger than {self._settings.max_body_bytes} bytes.")

    def _without_upgrade(self) -> bytes:
        """The head once more, for a new parser: the old one takes whatever follows an Upgrade for another protocol, bodies too.

        We speak no other, and may ignore it (RFC 9110 section 7.8). Java's client offers HTTP/2 in this way.
        """
        request_line = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        headers = [name + b": " + value + b"\r\n" for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"".join([request_line, *headers, b"\r\n"])

    def _refuse(self, problem: Problem) -> None:
        """Stop reading. Who reads the body learns why, or else the client, in turn."""
        in_body = self._state == "body"
        self._enter("refused")
        self.flow.pause_reading()
        if not in_body:
            request_id = token_hex(16)
            self._report(problem.name, request_id, status=problem.status, detail=problem.detail)
            self._refusal = self._answer(problem, request_id)
            self._send_refusal(self._refusal)
        elif self.cycle.response_complete:
            self._report(problem.name, self._request_id())
            self.transport.close()
        else:
            # The application answers, and tells the log.
            REFUSALS_TOTAL.labels(problem.name).inc()
            cast("_Cycle", self.cycle).end_body(problem)

    def _send_refusal(self, refusal: bytes) -> None:
        # What came earlier is answered first: a client takes the next answer for that of its oldest request.
        if self._is_answered and not self.transport.is_closing():
            self.transport.write(refusal)
            self.transport.close()

    def _answer(self, problem: Problem, request_id: str) -> bytes:
        body = problem.body(path="", request_id=request_id)
        own = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "connection": "close", "x-request-id": request_id}
        headers = [
            *self.server_state.default_headers,
            *((name.encode(), value.encode()) for name, value in (own | problem.headers | self._cors_headers()).items()),
        ]
        return b"".join([STATUS_LINE[problem.status], *(name + b": " + value + b"\r\n" for name, value in headers), b"\r\n", body])

    def _cors_headers(self) -> dict[str, str]:
        """What lets a page of an allowed origin read the answer, as it reads the application's."""
        origin = dict(self.headers or ()).get(b"origin", b"").decode("latin-1")
        allowed = next((each for each in self._settings.cors_origins if each in ("*", origin)), None)
        if not origin or allowed is None:
            return {}
        credentials = {"access-control-allow-credentials": "true"} if self._settings.cors_credentials else {}
        exposed = {"access-control-expose-headers": "Retry-After, X-Request-ID", "vary": "Origin"}
        return {"access-control-allow-origin": allowed, **credentials, **exposed}

    def _report(self, reason: str, request_id: str | None, **fields: Any) -> None:
        REFUSALS_TOTAL.labels(reason).inc()
        _log.info("connection_refused", reason=reason, request_id=request_id, client=self.client and self.client[0], **fields)

    def _request_id(self) -> str | None:
        # The application's, which it keeps there.
        return cast("dict[str, Any]", self._last_cycle.scope).get("request_id") if self._last_cycle else None

    @property
    def _is_answered(self) -> bool:
        """Whether all is answered that has come so far, the request at hand aside."""
        return self._last_cycle is None or self._last_cycle.response_complete

    @property
    def _last_cycle(self) -> RequestResponseCycle | None:
        # uvicorn's type leaves out that there is none before the first request.
        return self.cycle

    def _close(self) -> bool:
        """Whether to close in stages, because the client is still sending."""
        if self._state not in ("head", "body", "refused"):
            return False
        self._enter("closing")
        self.flow.resume_reading()
        return True


class _Cycle(RequestResponseCycle):
    """One request and its answer."""

    _problem: Problem | None = None

    def end_body(self, problem: Problem) -> None:
        """Raise a problem where the body is read, and close after the answer."""
        self._problem = problem
        self.keep_alive = False
        self.message_event.set()

    async def receive(self) -> Any:
        """The next part of the body.

        Raises:
            Problem: there will be none.
        """
        message = await super().receive() if self._problem is None else None
        if self._problem is not None:
            raise self._problem
        return message


def _ending_quietly(app: Any) -> Any:
    """The application, whose requests have answered when the server ends them because it cannot wait any longer; uvicorn would log a fault."""

    async def until_cancelled(scope: Any, receive: Any, send: Any) -> None:
        with suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return until_cancelled


def _too_many_bytes() -> Problem:
    return HeadersTooLarge(f"The request line and the headers are larger than {MAX_HEAD_BYTES} bytes.")


def _too_many_headers() -> Problem:
    return HeadersTooLarge(f"There are more than {MAX_HEADERS} headers.")
