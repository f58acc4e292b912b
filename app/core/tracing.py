"""Traces by OpenTelemetry, of the extra `stockroom[otel]`. Imported only where `APP_TRACING` is on.

Where spans go, which traces are kept and what the service is called is for OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_*`, `OTEL_TRACES_SAMPLER`,
`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`); its SDK reads them.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import app
from app.core import statements

_PROPAGATOR = TraceContextTextMapPropagator()
_NANOSECONDS = 1_000_000_000
# The last spans may be lost where nobody takes them: a process that stops has other things to do in time.
_FLUSH_SECONDS = 2.0
_tracer: Tracer = trace.NoOpTracer()


@asynccontextmanager
async def exported(processor: SpanProcessor | None = None) -> AsyncIterator[None]:
    """Make spans for as long as the block runs.

    Args:
        processor: what becomes of them; sent in batches by OTLP over HTTP unless given.
    """
    global _tracer  # noqa: PLW0603 - one a process, as its metrics and its log
    # It warns of headers that clients make up.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    service = Resource.create({"service.name": "stockroom", "service.version": app.__version__}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=service, shutdown_on_exit=False)
    provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("stockroom", app.__version__)
    statements.observer = _observe
    try:
        yield
    finally:
        statements.observer = None
        _tracer = trace.NoOpTracer()
        # It has no limit of its own, and a thread of asyncio's would be waited for at the end.
        flushing = threading.Thread(target=provider.shutdown, daemon=True)
        flushing.start()
        await asyncio.to_thread(flushing.join, _FLUSH_SECONDS)


def begin(name: str, headers: Mapping[str, str]) -> Span:
    """A span of a server, of the caller's trace if the headers (`traceparent`, `tracestate`) name one."""
    return _tracer.start_span(name, context=_PROPAGATOR.extract(headers), kind=SpanKind.SERVER)


def _observe(query: str, seconds: float, error: BaseException | None) -> None:
    """Make the span of a statement that has ended, if it belongs to one that is kept."""
    if not trace.get_current_span().is_recording():
        return
    ended = time.time_ns()
    operation = query.split(None, 1)[0].upper().rstrip(";")
    attributes = {"db.system.name": "postgresql", "db.operation.name": operation, "db.query.text": " ".join(query.split())}
    span = _tracer.start_span(operation, kind=SpanKind.CLIENT, attributes=attributes, start_time=ended - round(seconds * _NANOSECONDS))
    if error is not None:
        span.set_attribute("error.type", getattr(error, "sqlstate", None) or type(error).__name__)
        span.set_status(Status(StatusCode.ERROR))
    span.end(ended)
