"""Logs: one event a line with fields; the request's line tells who asked for what, and no line tells a secret."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import structlog
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import Message

from app.api import health, middleware
from app.core import draining, statements
from app.core.config import Settings
from app.core.db import Database, DirectConnection
from app.core.logging import configure_logging
from app.core.metrics import UNHANDLED_ERRORS_TOTAL
from app.core.process import Process
from app.main import create_app
from app.services import logins, products
from tests.shop import API, a_product

Lines = Callable[[], list[dict[str, Any]]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def configured(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Callable[[], str]]]:
    """Sets logging up for some settings and gives what is written from then on."""

    def configure(*, to: io.StringIO | None = None, **changes: Any) -> Callable[[], str]:
        output = to or io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        monkeypatch.setattr(sys, "stdout", output)
        configure_logging(settings.model_copy(update=changes))
        for module in (middleware, health, logins, statements):
            monkeypatch.setattr(module, "_log", structlog.get_logger())
        return lambda: output.getvalue() if isinstance(output, io.StringIO) else output.buffer.getvalue().decode()

    yield configure
    monkeypatch.undo()
    configure_logging(settings)


@pytest.fixture
def lines(process: Process, configured: Callable[..., Callable[[], str]]) -> Lines:
    """What the application logs as JSON, line by line."""
    del process  # started, which sets logging up once
    written = configured(log_format="json")
    # The tests' own client logs its requests too.
    return lambda: [line for line in map(json.loads, written().splitlines()) if line.get("logger") != "httpx"]


class TestRequests:
    async def test_a_request_is_one_line_with_its_id_route_status_duration_and_principal(
        self, admin: httpx.AsyncClient, lines: Lines
    ) -> None:
        product = await a_product(admin)
        before = len(lines())
        await admin.get(f"{API}/products/{product['id']}", headers={"X-Request-ID": "given-by-client"})
        (line,) = lines()[before:]
        assert 0 < line.pop("duration_ms") < 10_000
        assert len(line.pop("principal")) == 36
        assert line.pop("timestamp").endswith("Z")
        assert line == {
            "event": "request",
            "level": "info",
            "method": "GET",
            "route": f"{API}/products/{{product_id}}",
            "status": 200,
            "request_id": "given-by-client",
            "client": "127.0.0.1",
        }

    async def test_what_a_browser_asks_before_a_request_is_a_line_too(self, app: FastAPI, settings: Settings, lines: Lines) -> None:
        trusting = create_app(settings.model_copy(update={"cors_origins": ("https://shop.example",)}))
        trusting.state.process = app.state.process
        asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "PATCH", "X-Request-ID": "given-by-browser"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(trusting), base_url="http://stockroom.test") as client:
            assert (await client.options(f"{API}/products", headers=asked)).status_code == 200
        (line,) = lines()
        assert (line["method"], line["route"], line["status"], line["request_id"]) == ("OPTIONS", "preflight", 200, "given-by-browser")

    async def test_the_id_in_the_log_is_the_one_in_the_answer(self, client: httpx.AsyncClient, lines: Lines) -> None:
        answer = await client.get(f"{API}/products")
        (line,) = lines()
        assert (line["request_id"], line["status"]) == (answer.headers["X-Request-ID"], 401)
        assert "principal" not in line

    async def test_no_line_holds_a_raw_path_or_query_which_anybody_can_make_up(self, admin: httpx.AsyncClient, lines: Lines) -> None:
        for path in ("/made-up/made-up", f"{API}/products/made-up?x=made-up", f"{API}/variants/made-up"):
            await admin.get(path)
        await admin.request("MADE-UP", "/made-up")
        assert "made-up" not in str(lines()).lower()
        assert [(line["method"], line["route"]) for line in lines()] == [
            ("GET", "unmatched"),
            ("GET", f"{API}/products/{{product_id}}"),
            ("GET", f"{API}/variants/{{sku}}"),
            ("other", "unmatched"),
        ]

    async def test_a_request_of_a_trace_has_its_id_in_every_line(
        self, viewer: httpx.AsyncClient, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
        monkeypatch.setattr(products, "get_product", None)
        await viewer.get(f"{API}/products/{uuid4()}", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})
        await viewer.get(f"{API}/products/{uuid4()}", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7"})
        assert [(line["event"], line.get("trace_id")) for line in lines()] == [
            ("unhandled_error", trace_id),
            ("request", trace_id),
            ("unhandled_error", None),
            ("request", None),
        ]

    async def test_probes_and_scrapes_have_a_line_a_minute_with_their_number_and_one_each_when_they_fail(
        self, client: httpx.AsyncClient, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def ask() -> None:
            for path in ("/livez", "/healthz", "/metrics"):
                assert (await client.get(path)).status_code == 200

        monkeypatch.setattr(middleware, "_QUIET_SECONDS", 0.0)
        await ask()
        before = len(lines())
        monkeypatch.setattr(middleware, "_QUIET_SECONDS", 3600.0)
        for _ in range(2):
            await ask()
        assert len(lines()) == before
        monkeypatch.setattr(middleware, "_QUIET_SECONDS", 0.0)
        await ask()
        assert [(line["route"], line["requests"]) for line in lines()[before:]] == [("/livez", 3), ("/healthz", 3), ("/metrics", 3)]
        monkeypatch.setattr(middleware, "_QUIET_SECONDS", 3600.0)
        monkeypatch.setattr(draining, "_draining", True)
        before = len(lines())
        for _ in range(2):
            await client.get("/healthz")
        assert [(line["route"], line["status"]) for line in lines()[before:]] == [("/healthz", 503)] * 2

    async def test_a_client_that_goes_away_within_its_body_is_no_fault_of_ours(
        self, app: FastAPI, admin: httpx.AsyncClient, lines: Lines
    ) -> None:
        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(_: Message) -> None:
            """Nobody listens."""

        headers = [(b"content-type", b"application/json"), (b"authorization", admin.headers["Authorization"].encode())]
        scope = {
            "type": "http",
            "method": "POST",
            "path": f"{API}/products",
            "query_string": b"",
            "headers": headers,
            "http_version": "1.1",
        }
        await app(scope, receive, send)
        assert [(line["event"], line["status"], line["level"]) for line in lines()] == [("request", 499, "info")]


class TestSlowness:
    async def test_a_slow_request_is_a_warning_with_its_route(
        self, app: FastAPI, viewer: httpx.AsyncClient, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await viewer.get(f"{API}/products")
        monkeypatch.setattr(app.middleware_stack, "_slow_seconds", 0.0)
        await viewer.get(f"{API}/products")
        await viewer.get("/livez")
        assert [(line["level"], line["route"], line.get("slow")) for line in lines()] == [
            ("info", f"{API}/products", None),
            ("warning", f"{API}/products", True),
            ("warning", "/livez", True),
        ]

    async def test_a_slow_query_has_a_line_with_route_and_text_but_no_values(
        self, admin: httpx.AsyncClient, database: Database, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await admin.get(f"{API}/variants/hunter2")
        assert [line["event"] for line in lines()] == ["request"]
        monkeypatch.setattr(database._statements, "_slow_seconds", 0.0)
        await admin.get(f"{API}/variants/hunter2", headers={"X-Request-ID": "given-by-client"})
        slow, request = lines()[1:]
        assert (slow["event"], slow["level"], slow["route"]) == ("slow_query", "warning", f"{API}/variants/{{sku}}")
        assert slow["request_id"] == request["request_id"] == "given-by-client"
        assert 0 < slow["duration_ms"] < request["duration_ms"]
        assert "FROM variant" in slow["query"]
        assert "hunter2" not in str(slow)

    async def test_a_commit_can_be_slow_too(
        self, admin: httpx.AsyncClient, database: Database, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database._statements, "_slow_seconds", 0.0)
        await admin.post(f"{API}/categories", json={"name": "Shirts"})
        queries = [line["query"] for line in lines() if line["event"] == "slow_query"]
        assert queries[0].startswith("BEGIN")
        assert queries[-1] == "COMMIT"

    async def test_a_query_that_ran_into_its_limit_was_slow(self, settings: Settings, lines: Lines) -> None:
        impatient = settings.model_copy(update={"statement_timeout_seconds": 0.1, "slow_query_seconds": 0.05})
        database = Database(settings.require_database_url(), impatient, pool_size=1)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await database.read().fetch_all("SELECT pg_sleep(2)")
        await database.close()
        (slow,) = lines()
        assert (slow["event"], slow["query"], slow["error"]) == ("slow_query", "SELECT pg_sleep(2)", "QueryCanceled")
        assert slow["duration_ms"] >= 100


class TestFaultsOfOurs:
    @pytest.mark.parametrize("message", ["something is wrong here", "half a pair \ud800", "line\nbreak"])
    async def test_a_fault_is_one_more_line_with_the_traceback_and_the_counter_goes_up(
        self, viewer: httpx.AsyncClient, lines: Lines, monkeypatch: pytest.MonkeyPatch, message: str
    ) -> None:
        async def fail(*_: object) -> None:
            raise RuntimeError(message)

        monkeypatch.setattr(products, "get_product", fail)
        route = f"{API}/products/{{product_id}}"
        before = UNHANDLED_ERRORS_TOTAL.labels(route)._value.get()
        answer = await viewer.get(f"{API}/products/{uuid4()}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
        fault, request = lines()
        assert (fault["event"], fault["level"], fault["route"], fault["method"]) == ("unhandled_error", "error", route, "GET")
        assert fault["request_id"] == request["request_id"] == answer.headers["X-Request-ID"]
        assert fault["exception"].startswith("Traceback")
        assert f"RuntimeError: {message}" in fault["exception"]
        assert request["status"] == 500
        assert UNHANDLED_ERRORS_TOTAL.labels(route)._value.get() == before + 1

    async def test_what_a_client_did_wrong_is_no_error_of_ours(self, viewer: httpx.AsyncClient, lines: Lines) -> None:
        await viewer.get("/nowhere")
        await viewer.get(f"{API}/products?limit=x")
        await viewer.post(f"{API}/products", content=b"{", headers={"Content-Type": "application/json"})
        assert {line["level"] for line in lines()} == {"info"}


class TestShape:
    @pytest.mark.parametrize("name", ["uvicorn.error", "gunicorn.error", "sqlalchemy.pool", "anything.else"])
    def test_every_loggers_line_has_the_shape_of_ours(self, configured: Callable[..., Callable[[], str]], name: str) -> None:
        written = configured(log_format="json")
        logging.getLogger(name).warning("it is %s\nor not", "so")
        structlog.get_logger().warning("it is so\nor not", logger=name)
        theirs, ours = map(json.loads, written().splitlines())
        assert theirs.keys() == ours.keys()
        assert (
            theirs | {"timestamp": ""}
            == ours | {"timestamp": ""}
            == {"event": "it is so\nor not", "level": "warning", "logger": name, "timestamp": ""}
        )

    @pytest.mark.parametrize("name", ["uvicorn.error", "gunicorn.error"])
    def test_a_servers_traceback_is_in_its_line(self, configured: Callable[..., Callable[[], str]], name: str) -> None:
        written = configured(log_format="json")
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            logging.getLogger(name).exception("oh no")
        (line,) = map(json.loads, written().splitlines())
        assert "ZeroDivisionError: division by zero" in line["exception"]

    def test_uvicorns_access_log_is_off_for_ours_knows_more(self, configured: Callable[..., Callable[[], str]]) -> None:
        written = configured(log_format="json")
        logging.getLogger("uvicorn.access").info("GET /")
        assert written() == ""

    def test_whatever_a_field_holds_the_line_is_written(self, configured: Callable[..., Callable[[], str]]) -> None:
        written = configured(log_format="json")
        structlog.get_logger().info("odd", number=10**30, half="\ud800", thing=object(), when=uuid4())
        assert json.loads(written())["number"] == 10**30

    @pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
    def test_the_level_counts_for_all_loggers(self, configured: Callable[..., Callable[[], str]], level: str, expected: int) -> None:
        written = configured(log_format="json", log_level=level)
        for log in (structlog.get_logger(), logging.getLogger("uvicorn.error")):
            for name in ("debug", "info", "warning", "error"):
                getattr(log, name)("event")
        assert len(written().splitlines()) == 2 * expected

    def test_debug_shows_more(self, configured: Callable[..., Callable[[], str]]) -> None:
        written = configured(log_format="json", debug=True)
        structlog.get_logger().debug("detail")
        assert json.loads(written())["event"] == "detail"


class TestConsole:
    def test_on_a_terminal_it_is_for_people(self, configured: Callable[..., Callable[[], str]]) -> None:
        written = configured(to=Terminal(), log_format="auto")
        structlog.get_logger().info("reservation_created", lines=3)
        logging.getLogger("gunicorn.error").info("Listening")
        first, second = written().splitlines()
        assert "\x1b[" in first
        assert "reservation_created" in first
        assert "Listening" in second
        assert not first.startswith("{")

    def test_without_a_terminal_it_is_for_machines(self, configured: Callable[..., Callable[[], str]]) -> None:
        written = configured(log_format="auto")
        structlog.get_logger().info("reservation_created", lines=3)
        assert json.loads(written())["lines"] == 3

    def test_written_for_people_into_a_file_it_has_no_colours(self, configured: Callable[..., Callable[[], str]]) -> None:
        written = configured(to=io.StringIO(), log_format="console")
        structlog.get_logger().info("reservation_created", lines=3)
        assert "reservation_created" in written()
        assert "\x1b[" not in written()

    def test_a_traceback_for_people_shows_no_values_of_variables(self, configured: Callable[..., Callable[[], str]]) -> None:
        written = configured(to=Terminal(), log_format="console")
        password = "hunter" + str(2)
        try:
            _ = 1 / 0
        except ZeroDivisionError as error:
            structlog.get_logger().error("unhandled_error", exc_info=error)
            logging.getLogger("uvicorn.error").exception("oh no")
        assert written().count("ZeroDivisionError: division by zero") == 2
        assert password not in written()


class TestTheDatabase:
    @pytest.fixture
    def lost(self, app: FastAPI, process: Process, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        """The application is sent to a database that is not there."""
        url = "postgresql://stockroom:hunter2@127.0.0.1:1/stockroom"
        elsewhere = replace(process, database=Database(url, settings, pool_size=1), direct=DirectConnection(url, timeout_seconds=1.0))
        monkeypatch.setitem(app.state._state, "process", elsewhere)
        monkeypatch.setitem(app.state._state, "readiness", health.Readiness(elsewhere))

    @pytest.mark.usefixtures("lost")
    async def test_the_operator_reads_why_the_clients_do_not_and_nobody_reads_the_password(
        self, viewer: httpx.AsyncClient, lines: Lines
    ) -> None:
        assert (await viewer.get(f"{API}/products")).status_code == 503
        assert (await viewer.get("/healthz")).status_code == 503
        refused, request, unready, probe = lines()
        assert (refused["event"], refused["level"], refused["problem"]) == ("request_refused", "warning", "database-unavailable")
        assert (unready["event"], unready["level"]) == ("database_unready", "warning")
        assert all("127.0.0.1" in line["reason"] for line in (refused, unready))
        assert request["status"] == probe["status"] == 503
        assert "hunter2" not in str(lines())


class TestSecrets:
    async def test_no_line_holds_a_password_or_token(self, admin: httpx.AsyncClient, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        secret = "correct horse battery staple"
        body = {"email": "eva@example.com", "password": secret, "display_name": "Eva"}
        assert (await admin.post(f"{API}/users", json=body)).status_code == 201
        for password in (secret, secret + "!"):
            await admin.post(f"{API}/auth/login", data={"username": "eva@example.com", "password": password})
        await admin.post(f"{API}/users/me/password", json={"current_password": secret, "new_password": secret})
        monkeypatch.setattr(products, "list_products", None)
        await admin.get(f"{API}/products")
        assert len(lines()) >= 6
        written = str(lines())
        assert secret not in written
        assert admin.headers["Authorization"].removeprefix("Bearer ") not in written
        assert "eva@example.com" not in written

    @pytest.mark.parametrize("form", ["json", "console"])
    async def test_what_an_error_or_a_library_says_of_a_secret_is_redacted(
        self, settings: Settings, configured: Callable[..., Callable[[], str]], form: str
    ) -> None:
        assert settings.signing_keys is not None
        key = settings.signing_keys.get_secret_value()
        token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
        known = SecretStr("postgresql://stockroom:a%2Flong%22password@db.internal/stockroom")
        written = configured(log_format=form, database_url=known, admin_password=SecretStr('twelve "signs" \\ more'))
        texts = [
            key, token, f"Authorization: Bearer {token}", "Bearer opaque-token-of-ours", "connecting to postgresql://eva:hunter2@db/x",
            "host=db password=hunter2 user=eva", "password='hunter2 and more'", '{"password": "hunter2 and more"}', 'a/long"password', "a%2Flong%22password",
            'twelve "signs" \\ more', "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
        ]  # fmt: skip
        for text in texts:
            structlog.get_logger().info("odd", text=text, nested={"list": [text]})
            logging.getLogger("some.library").warning("it says %s", text)
            structlog.get_logger().error("unhandled_error", exc_info=RuntimeError(text))
            logging.getLogger("uvicorn.error").error("oh no", exc_info=RuntimeError(text))
        shown = written()
        if form == "json":
            assert len([json.loads(line) for line in shown.splitlines()]) == 4 * len(texts)
        for secret in (
            *key.splitlines()[1:-1],
            *token.split("."),
            "opaque-token",
            "hunter2",
            "and more",
            "password@",
            "long",
            "twelve",
            "aGFzaA",
        ):
            assert secret not in shown
        assert "postgresql://eva:***@db/x" in shown
