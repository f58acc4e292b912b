"""A span for each request, around everything that answers it. Imported only where `APP_TRACING` is on."""

from opentelemetry import context
from opentelemetry.trace import Span, Status, StatusCode, format_span_id, format_trace_id, set_span_in_context
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.middleware import QUIET, method_of, route_of
from app.core import tracing
from app.core.request_ids import trace_id

# What a sender may count on being passed on (W3C Trace Context, section 3.3.1.5).
_LONGEST_STATE = 512


class Traced:
    """Makes the span of a request and says its `traceparent` in the answer, so that a client who sent none can find the trace.

    Probes, scrapes, and what the protocol itself answers have none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"] in QUIET:
            await self._app(scope, receive, send)
            return
        span = tracing.begin(method_of(scope), _parent(scope))
        own = span.get_span_context()
        scope["trace_id"] = format_trace_id(own.trace_id)
        header = (b"traceparent", f"00-{scope['trace_id']}-{format_span_id(own.span_id)}-{own.trace_flags:02x}".encode())
        status = 0

        async def send_with_trace(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        token = context.attach(set_span_in_context(span))
        try:
            await self._app(scope, receive, send_with_trace)
        finally:
            context.detach(token)
            _end(span, scope, status)


def _parent(scope: Scope) -> dict[str, str]:
    """The headers that name the caller's span, where they are well-formed."""
    if trace_id(scope["headers"]) is None:
        return {}
    named = {name: value for name, value in reversed(scope["headers"]) if name in (b"traceparent", b"tracestate")}
    return {name.decode(): value.decode("latin-1") for name, value in named.items() if len(value) <= _LONGEST_STATE}


def _end(span: Span, scope: Scope, status: int) -> None:
    """Say what the request was, in OpenTelemetry's words (its semantic conventions for HTTP spans)."""
    method, route = method_of(scope), route_of(scope)
    span.update_name(f"{method} {route}")
    span.set_attributes(
        {
            "http.request.method": "_OTHER" if method == "other" else method,
            "http.response.status_code": status or 499,
            "url.scheme": scope.get("scheme", "http"),
            "url.path": scope["path"],
            "stockroom.request_id": scope["request_id"],
            **({"http.route": route} if "route" in scope else {}),
        }
    )
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))
    span.end()
