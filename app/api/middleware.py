"""What happens around every request, in pure ASGI: Starlette's BaseHTTPMiddleware would cost three times the throughput of a trivial route."""

import asyncio
import time
from collections import Counter
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.deps import LOGIN_PATH
from app.api.errors import problem_answer, problem_from
from app.core.admission import Refusals
from app.core.draining import is_draining
from app.core.logging import log_request, reason_of
from app.core.metrics import REQUEST_DURATION_SECONDS, SERVER_ERRORS_TOTAL, UNHANDLED_ERRORS_TOTAL, Children
from app.core.problems import InternalError, Overloaded, Problem, quoted
from app.core.process import Process
from app.core.request_ids import current_ids, request_id, trace_id

_log = structlog.get_logger()

QUIET = frozenset({"/livez", "/healthz", "/metrics"})
"""Asked for again and again by machines: never refused, never traced, and logged once a minute."""

_QUIET_SECONDS = 60.0
_DURATIONS = Children(REQUEST_DURATION_SECONDS)
_LONGEST_ADDRESS = 45
_CLOSE = (b"connection", b"close")
_VARY = ((b"vary", b"Origin"),)
_PREFLIGHT = "preflight"
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestContext:
    """Gives a request its id, is the last to see its errors, and then logs and measures it.

    Standing inside the CORS middleware, its 500s have CORS headers too; Starlette's own handler stands outside of everything.

    Args:
        app: what is inside of it.
        slow_seconds: a request that takes longer is logged as a warning.
    """

    def __init__(self, app: ASGIApp, *, slow_seconds: float) -> None:
        self._app = app
        self._slow_seconds = slow_seconds
        self._quiet = _Quiet()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own_id = scope["request_id"] = request_id(scope["headers"])
        if (refusals := _refusals(scope)) is not None:
            await _refuse(refusals, scope, send)
            return
        started = time.perf_counter()
        before = current_ids.set(_ids(own_id, scope))
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", own_id.encode()), *scope.get("vary", ())]
                if is_draining():
                    message["headers"].append(_CLOSE)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            # Gone while its body was read: there is nobody to answer.
            pass
        except (Exception, asyncio.CancelledError) as error:
            problem = _reported(error, scope)
            if status == 0:
                await problem_answer(problem, scope)(scope, receive, send_with_id)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._record(scope, status, time.perf_counter() - started)
            current_ids.reset(before)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # 499, as nginx has it: the client went away before its request was whole.
        method, route = method_of(scope), route_of(scope)
        _DURATIONS[method, route, str(status or 499)].observe(seconds)
        if status >= 500 and route not in QUIET:
            SERVER_ERRORS_TOTAL.inc()
        fields: dict[str, Any] = {"method": method, "route": route, "status": status or 499, "duration_ms": round(seconds * 1000, 2)}
        is_slow = seconds > self._slow_seconds
        if route in QUIET and status < 500 and not is_slow:
            if not (count := self._quiet.count(route)):
                return
            fields["requests"] = count
        if principal := scope.get("principal"):
            fields["principal"] = principal.user_id
        fields |= _client_of(scope)
        if is_slow:
            log_request("warning", slow=True, **fields)
        else:
            log_request("info", **fields)


class CorsForBrowsers:
    """CORS for who sends an `Origin`, as browsers' pages do. The rest passes by with the `Vary` that caches need, for a quarter of what CORS costs.

    Args:
        cors: the CORS middleware around the context.
        context: what is inside of it.
    """

    def __init__(self, cors: ASGIApp, context: ASGIApp) -> None:
        self._cors = cors
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        for name, _ in scope.get("headers", ()):
            if name == b"origin":
                await self._cors(scope, receive, _told(scope, send) if _is_preflight(scope) else send)
                return
        scope["vary"] = _VARY
        await self._context(scope, receive, send)


def method_of(scope: Scope) -> str:
    """The request's method, `other` for one that nobody knows."""
    return scope["method"] if scope["method"] in _KNOWN_METHODS else "other"


def route_of(scope: Scope) -> str:
    """The route's template, never the raw path: metrics and logs must not grow with what clients make up."""
    return getattr(scope.get("route"), "path_format", "unmatched")


def _client_of(scope: Scope) -> dict[str, str]:
    # As long as an address can be: a proxy passes on whatever a client made up.
    return {"client": client[0][:_LONGEST_ADDRESS]} if (client := scope.get("client")) else {}


def _is_preflight(scope: Scope) -> bool:
    # Which CORS answers itself: nothing inside of it sees them.
    return scope["method"] == "OPTIONS" and any(name == b"access-control-request-method" for name, _ in scope["headers"])


def _told(scope: Scope, send: Send) -> Send:
    """What the context would have done: a line in the log, and the end of the connection while we drain."""
    started = time.perf_counter()

    async def send_and_tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            if is_draining():
                message["headers"] = [*message["headers"], _CLOSE]
            before = current_ids.set(_ids(request_id(scope["headers"]), scope))
            milliseconds = round((time.perf_counter() - started) * 1000, 2)
            log_request("info", method="OPTIONS", route=_PREFLIGHT, status=message["status"], duration_ms=milliseconds, **_client_of(scope))
            current_ids.reset(before)
        await send(message)

    return send_and_tell


class _Quiet:
    """What probes and scrapes have in the log: a line a minute for each of their routes, with the number of requests that it stands for."""

    def __init__(self) -> None:
        self._unlogged: Counter[str] = Counter()
        self._logged_at: dict[str, float] = {}

    def count(self, route: str) -> int:
        """One more; returns how many a line is due for, 0 when none is."""
        self._unlogged[route] += 1
        now = time.monotonic()
        if now - self._logged_at.get(route, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return 0
        self._logged_at[route] = now
        return self._unlogged.pop(route)


def _ids(own_id: str, scope: Scope) -> dict[str, str]:
    """What every line of a request has in the log. Its trace is the client's, unless spans are made here (`app/api/tracing.py`)."""
    trace = scope.get("trace_id") or trace_id(scope["headers"])
    return {"request_id": own_id, "trace_id": trace} if trace else {"request_id": own_id}


async def _refuse(refusals: Refusals, scope: Scope, send: Send) -> None:
    """Answer that there is no place, before anything is read, routed or verified."""
    own_id = scope["request_id"].encode()
    body = refusals.next_body(quoted(scope["path"]).encode(), own_id)
    headers = [*refusals.next_headers(), (b"content-length", b"%d" % len(body)), (b"x-request-id", own_id), *scope.get("vary", ())]
    if is_draining():
        headers.append(_CLOSE)
    await send({"type": "http.response.start", "status": Overloaded.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _reported(error: BaseException, scope: Scope) -> Problem:
    """What to tell the client about an error, after telling the log what is for us to know."""
    problem = problem_from(error, scope)
    if isinstance(problem, InternalError):
        UNHANDLED_ERRORS_TOTAL.labels(route_of(scope)).inc()
        _log.error("unhandled_error", route=route_of(scope), method=scope["method"], exc_info=error)
    elif problem.status >= 500:
        _log.warning("request_refused", route=route_of(scope), problem=problem.name, reason=reason_of(error))
    return problem


def _refusals(scope: Scope) -> Refusals | None:
    """What refuses this request, if it comes at a time when there are too many of its kind; None when it may come in."""
    path = scope["path"]
    if path in QUIET:
        return None
    process: Process = scope["app"].state.process
    if process.admission.is_full():
        return process.admission.refusals
    # Parsed and routed, two hundred at once would hold up everything else for a tenth of a second.
    if path == LOGIN_PATH and scope["method"] == "POST" and process.passwords.is_full:
        return process.passwords.refusals
    return None
