"""Traces: a span for each request and, within it, for each of its statements; `traceparent` in and out; nothing at all unless it is switched on."""

import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id

from app.api.tracing import Traced
from app.core import statements
from app.core.config import Settings
from app.core.request_ids import current_ids
from app.core.tracing import exported
from app.main import create_app
from app.services import products
from tests.shop import API, a_product

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
async def spans() -> AsyncIterator[InMemorySpanExporter]:
    """Where spans go, as long as the test runs."""
    exporter = InMemorySpanExporter()
    async with exported(SimpleSpanProcessor(exporter)):
        yield exporter


@pytest.fixture
async def traced(app: FastAPI, admin: httpx.AsyncClient, spans: InMemorySpanExporter) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator's client whose requests are traced."""
    del spans
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Traced(app)), base_url="http://stockroom.test", headers=admin.headers
    ) as client:
        yield client


def parts(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The request's span, and those of its statements in their order."""
    found = exporter.get_finished_spans()
    (request,) = [span for span in found if span.kind is SpanKind.SERVER]
    return request, [span for span in found if span.kind is SpanKind.CLIENT]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_read_is_a_span_with_its_statement_inside(
    traced: httpx.AsyncClient, admin: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    product = await a_product(admin)
    answer = await traced.get(f"{API}/products/{product['id']}", headers={"X-Request-ID": "given-by-client"})
    assert answer.status_code == 200
    request, (statement,) = parts(spans)
    assert request.name == f"GET {API}/products/{{product_id}}"
    assert attributes(request) == {
        "http.request.method": "GET",
        "http.route": f"{API}/products/{{product_id}}",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": f"{API}/products/{product['id']}",
        "stockroom.request_id": "given-by-client",
    }
    assert request.parent is None
    assert statement.parent is not None
    assert statement.parent.span_id == request.context.span_id
    assert statement.name == "SELECT"
    assert "FROM product" in attributes(statement)["db.query.text"]
    assert product["id"] not in str(attributes(statement))
    assert request.start_time < statement.start_time < statement.end_time < request.end_time  # type: ignore[operator] # ended spans have times
    assert request.resource.attributes["service.name"] == "stockroom"


async def test_a_write_shows_its_transaction(traced: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    assert (await traced.post(f"{API}/categories", json={"name": "Shirts"})).status_code == 201
    _, made = parts(spans)
    assert (made[0].name, made[-1].name) == ("BEGIN", "COMMIT")
    assert len(made) > 2


async def test_a_callers_trace_goes_on_here_and_the_answer_names_our_span(traced: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    answer = await traced.get(f"{API}/products", headers={"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "shop=1"})
    request, (statement,) = parts(spans)
    assert request.parent is not None
    assert (format_trace_id(request.context.trace_id), format_span_id(request.parent.span_id)) == (TRACE, SPAN)
    assert statement.context.trace_id == request.context.trace_id
    assert request.context.trace_state.to_header() == "shop=1"
    assert answer.headers["traceparent"] == f"00-{TRACE}-{format_span_id(request.context.span_id)}-01"


async def test_lines_of_the_log_name_the_trace_that_began_here(
    traced: httpx.AsyncClient, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: dict[str, Any] = {}

    async def look(*_: object) -> None:
        bound.update(current_ids.get())

    monkeypatch.setattr(products, "get_product", look)
    await traced.get(f"{API}/products/{uuid4()}")
    request, _ = parts(spans)
    assert bound["trace_id"] == format_trace_id(request.context.trace_id)


async def test_what_the_caller_does_not_keep_is_not_kept_here(traced: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    answer = await traced.get(f"{API}/products", headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
    assert spans.get_finished_spans() == ()
    assert answer.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert answer.headers["traceparent"].endswith("-00")


@pytest.mark.parametrize("given", ["rubbish", f"00-{TRACE}-{SPAN}-01-more", f"00-{'0' * 32}-{SPAN}-01", "0" * 5000])
async def test_a_malformed_traceparent_begins_a_new_trace_without_a_word(
    traced: httpx.AsyncClient, spans: InMemorySpanExporter, given: str, caplog: pytest.LogCaptureFixture
) -> None:
    for state in ("rub=bish, =", "s=" + "x" * 5000):
        answer = await traced.get(f"{API}/products", headers={"traceparent": given, "tracestate": state})
        assert answer.status_code == 200
        assert TRACE not in answer.headers["traceparent"]
    await traced.get(f"{API}/products", headers={"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": state})
    assert len(spans.get_finished_spans()) == 6
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


async def test_a_fault_and_a_failed_statement_are_marked_and_a_clients_error_is_not(
    traced: httpx.AsyncClient, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(session: Any, *_: object) -> None:
        await session.fetch_all("SELECT 1 / 0")

    assert (await traced.get("/nowhere")).status_code == 404
    monkeypatch.setattr(products, "get_product", fail)
    assert (await traced.get(f"{API}/products/{uuid4()}")).status_code >= 400
    monkeypatch.setattr(products, "get_product", None)
    assert (await traced.get(f"{API}/products/{uuid4()}")).status_code == 500
    nowhere, statement, _, fault = spans.get_finished_spans()
    assert (nowhere.name, nowhere.status.is_ok) == ("GET unmatched", True)
    assert "http.route" not in attributes(nowhere)
    assert (attributes(statement)["error.type"], statement.status.is_ok) == ("22012", False)
    assert (attributes(fault)["error.type"], fault.status.is_ok) == ("500", False)


async def test_probes_and_scrapes_have_no_spans(traced: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    for path in ("/livez", "/healthz", "/metrics"):
        assert "traceparent" not in (await traced.get(path)).headers
    assert spans.get_finished_spans() == ()


class TestOverTheWire:
    @pytest.fixture
    def collector(self) -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
        """Takes traces by OTLP over HTTP: its address, and what it was sent."""
        taken: list[ExportTraceServiceRequest] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                taken.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}", taken
            server.shutdown()
            thread.join()

    async def test_switched_on_it_sends_what_it_has_at_the_latest_when_it_ends(
        self, settings: Settings, collector: tuple[str, list[ExportTraceServiceRequest]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        address, taken = collector
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        app = create_app(settings.model_copy(update={"tracing": True}))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stockroom.test") as client,
        ):
            answer = await client.get(f"{API}/products")
        spans = [span for request in taken for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
        (span,) = spans
        assert span.name == f"GET {API}/products"
        assert answer.headers["traceparent"].startswith(f"00-{span.trace_id.hex()}-{span.span_id.hex()}-")
        resource = {item.key: item.value.string_value for item in taken[0].resource_spans[0].resource.attributes}
        assert (resource["service.name"], statements.observer) == ("shop", None)


def test_switched_off_nothing_of_it_is_imported() -> None:
    code = "import json, sys, app.main; app.main.create_app(); print(json.dumps(list(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"opentelemetry.sdk", "app.core.tracing", "app.api.tracing", "google.protobuf"}.isdisjoint(json.loads(shown.stdout))


def test_without_the_extra_it_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.core.config.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"stockroom\[otel\]"):
        Settings(_env_file=None, tracing=True)
