"""Clients that send or read slowly, or not at all: each is cut after its time, and nobody else notices."""

import asyncio
import select
import socket
import time
from types import SimpleNamespace

import httpx
import psycopg
import pytest

from app.core import protocol
from app.core.config import Settings
from app.core.metrics import UNHANDLED_ERRORS_TOTAL
from tests.serving.clients import (
    BODY_SECONDS,
    HEAD_SECONDS,
    HOST,
    ORIGIN,
    SEND_SECONDS,
    SOON,
    a_connection,
    a_post,
    connected,
    log_of,
    refusals,
    the_log_of,
)
from tests.serving.servers import Server, until
from tests.shop import API, a_product


async def test_a_head_that_trickles_is_a_408_after_its_time(server: Server) -> None:
    async with connected(server) as client:
        started = time.monotonic()
        client.send(b"GET /livez HTTP/1.1\r\nX: ")
        trickle = asyncio.create_task(client.trickle(b"x"))
        answer = await client.answer()
        assert HEAD_SECONDS <= time.monotonic() - started < HEAD_SECONDS + SOON
        trickle.cancel()
        problem = answer.problem(408, "request-timeout")
        assert answer.headers["connection"] == "close"
        client.writer.write_eof()
        assert await client.end() == b""
    assert (await the_log_of(server, problem["request_id"]))["reason"] == "request-timeout"


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "an empty line"])
async def test_a_connection_without_a_request_is_closed_without_a_word(server: Server, sent: bytes) -> None:
    before = (await refusals(server)).get("silent", 0)
    started = time.monotonic()
    async with connected(server) as client:
        client.send(sent)
        assert await client.end() == b""
        assert HEAD_SECONDS <= time.monotonic() - started < HEAD_SECONDS + SOON
    assert (await refusals(server))["silent"] > before


async def test_a_body_that_trickles_is_an_ordinary_408_after_its_time(server: Server, admin: httpx.AsyncClient) -> None:
    request_id = f"slow-{time.monotonic_ns()}"
    async with connected(server) as client:
        started = time.monotonic()
        client.send(a_post(admin, b"Content-Length: 1000\r\n\r\n{", f"Origin: {ORIGIN}", f"X-Request-ID: {request_id}"))
        trickle = asyncio.create_task(client.trickle(b" "))
        answer = await client.answer()
        assert BODY_SECONDS <= time.monotonic() - started < BODY_SECONDS + SOON
        trickle.cancel()
        assert answer.problem(408, "request-timeout")["request_id"] == request_id
        assert (answer.headers["connection"], answer.headers["access-control-allow-origin"]) == ("close", ORIGIN)
        client.writer.write_eof()
        assert await client.end() == b""
    line = await the_log_of(server, request_id)
    assert (line["event"], line["route"], line["status"]) == ("request", f"{API}/locations", 408)


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), (f"{API}/locations", 401)])
async def test_a_body_that_nobody_reads_is_cut_after_its_time(server: Server, path: str, status: int) -> None:
    async with connected(server) as client:
        client.send(f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"Content-Length: 1000\r\n\r\n")
        answer = await client.answer()
        assert answer.status == status
        trickle = asyncio.create_task(client.trickle(b"x"))
        assert await client.end(BODY_SECONDS + SOON) == b""
        trickle.cancel()
    await until(
        lambda: (
            ("connection_refused", "request-timeout")
            in [(line["event"], line.get("reason")) for line in log_of(server, answer.headers["x-request-id"])]
        ),
        SOON,
    )


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"], ids=["and leaves it open", "and wants it closed"])
async def test_a_client_that_reads_nothing_of_its_answer_is_cut_after_its_time(
    server: Server, admin: httpx.AsyncClient, last: bytes
) -> None:
    # More than the kernel takes for a client; each is about as large as a product may be.
    for number in range(20):
        variants = [{"sku": f"LARGE-{number}-{variant}", "attributes": {"text": "x" * 16_000}} for variant in range(15)]
        await a_product(admin, variants=variants)
    before = (await refusals(server)).get("unread", 0)
    with a_client_that_does_not_read(server) as client:
        head = f"GET {API}/products?limit=100 HTTP/1.1\r\nAuthorization: {admin.headers['Authorization']}\r\n"
        client.sendall(head.encode() + HOST + last + b"\r\n")
        started = time.monotonic()
        await until(lambda: is_reset(client), SEND_SECONDS + SOON)
        assert time.monotonic() - started >= SEND_SECONDS
    assert (await refusals(server))["unread"] == before + 1


async def test_a_client_that_asks_on_and_on_and_reads_nothing_is_cut_after_its_time(server: Server) -> None:
    before = (await refusals(server)).get("unread", 0)
    with a_client_that_does_not_read(server) as client:
        client.setblocking(False)
        async with asyncio.timeout(SEND_SECONDS + 2 * SOON):
            while not is_reset(client):
                if select.select([], [client], [], 0)[1]:
                    client.send((b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 10)
                await asyncio.sleep(0.05)
    assert (await refusals(server))["unread"] == before + 1


async def test_they_hold_no_database_connection_and_nobody_waits_for_them(
    server: Server, admin: httpx.AsyncClient, database_url: str
) -> None:
    """Thirty at once, with a pool of five."""
    beginnings = [
        b"GET /livez HTTP/1.1\r\nX: ",
        a_post(admin, b"Content-Length: 1000\r\n\r\n{"),
        a_post(admin, b"Idempotency-Key: slow\r\nContent-Length: 1000\r\n\r\n{").replace(b"/locations", b"/stock/adjustments"),
    ]
    async with (
        httpx.AsyncClient(base_url=server.url, headers=admin.headers, timeout=SOON) as quick,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as observer,
    ):
        slow = [asyncio.create_task(_begin(server, beginnings[number % 3])) for number in range(30)]
        asked = 0
        while not all(client.done() for client in slow):
            assert (await quick.get(f"{API}/products")).status_code == 200
            asked += 1
            busy = await observer.execute(
                "SELECT state, query FROM pg_stat_activity WHERE application_name = 'stockroom' AND datname = current_database() AND state <> 'idle'"
            )
            assert await busy.fetchall() == []
            await asyncio.sleep(0.02)
    assert asked >= 5
    assert {await client for client in slow} == {408}


async def _begin(server: Server, beginning: bytes) -> int:
    async with connected(server) as client:
        client.send(beginning)
        return (await client.answer()).status


async def test_a_client_that_has_closed_its_half_and_reads_nothing_is_cut_after_its_time(server: Server) -> None:
    before = (await refusals(server)).get("unread", 0)
    with a_client_that_does_not_read(server) as client:
        client.sendall((b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 50)
        client.shutdown(socket.SHUT_WR)
        await until(lambda: is_reset(client), SEND_SECONDS + SOON)
    assert (await refusals(server))["unread"] == before + 1


async def test_a_connection_that_says_nothing_more_after_its_answer_is_closed_whatever_uvicorn_forgot(settings: Settings) -> None:
    """An empty line after an answer stops uvicorn's own timer."""
    async with a_connection(settings) as (connection, client):
        client.send(b"\r\n")
        await until(lambda: connection.timeout_keep_alive_task is None, SOON)
        now = asyncio.get_running_loop().time()
        connection.check(now + 74)
        assert not connection.transport.is_closing()
        connection.check(now + 76)
        assert await client.end() == b""


async def test_a_connection_that_cannot_be_checked_is_cut_and_told_of_and_raises_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(protocol, "_log", SimpleNamespace(exception=lambda event, **_: told.append(event)))
    faults = UNHANDLED_ERRORS_TOTAL.labels("unmatched")
    async with a_connection(settings) as (connection, client):
        monkeypatch.delattr(connection, "flow")
        before = faults._value.get()
        connection.check(asyncio.get_running_loop().time())
        assert await client.end() == b""
    assert faults._value.get() == before + 1
    assert told == ["connection_check_failed"]


def a_client_that_does_not_read(server: Server) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    return client


def is_reset(client: socket.socket) -> bool:
    """Whether the other side has cut the connection; to be seen without reading."""
    poll = select.poll()
    poll.register(client, select.POLLERR)
    return bool(poll.poll(0))
