"""A server without a free place: who comes is turned away at once, in the same words whoever says them, and comes in again when there is room."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import psycopg
import pytest

from app.core.admission import Admission
from app.core.config import Settings
from app.core.door import Door
from tests.serving.clients import HOST, ORIGIN, SOON, Client, a_connection, connected
from tests.serving.servers import Server, environment_of, serving, until
from tests.shop import API

PLACES = 6
"""A pool of five, and one who may wait."""


@pytest.fixture(scope="module")
async def small(settings: Settings) -> AsyncIterator[Server]:
    """A server with few places."""
    async with serving({**environment_of(settings), "APP_WAIT_BUDGET_MS": "0", "APP_CORS_ORIGINS": ORIGIN}) as server:
        yield server


@asynccontextmanager
async def full(server: Server, admin: httpx.AsyncClient, settings: Settings) -> AsyncIterator[list[Client]]:
    """All places taken for as long as the block runs, by these clients."""
    url = settings.require_database_url()
    async with AsyncExitStack() as stack, await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("LOCK TABLE location IN ACCESS EXCLUSIVE MODE")
        clients = [await stack.enter_async_context(connected(server)) for _ in range(PLACES)]
        for client in clients:
            client.send(get(f"{API}/locations", admin))
        await until(lambda: in_flight(server, PLACES), SOON)
        yield clients
        await connection.rollback()
        for client in clients:
            assert (await client.answer()).status == 200


async def in_flight(server: Server, number: int) -> bool:
    return (await metrics(server))["stockroom_requests_in_flight"] == number


async def metrics(server: Server) -> dict[str, float]:
    async with httpx.AsyncClient(base_url=server.url) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def get(path: str, admin: httpx.AsyncClient, *headers: str, version: str = "1.1", method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", f"Authorization: {admin.headers['Authorization']}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + HOST + b"\r\n"


async def test_everybody_is_told_the_same_whoever_says_it(small: Server, admin: httpx.AsyncClient, settings: Settings) -> None:
    path, named = f"{API}/products", "X-Request-ID: my-own-id"
    ways = {
        "plain": get(path, admin, named),
        "with a query": get(f"{path}?limit=20&q=%20", admin, named),
        "of a page in a browser": get(path, admin, named, f"Origin: {ORIGIN}"),
        "with a body": get(path, admin, named, "Content-Length: 0", method="POST"),
        "with an address that is escaped": get(path.replace("p", "%70", 1), admin, named),
        "by an old client": get(path, admin, named, version="1.0"),
        "by one who leaves": get(path, admin, named, "Connection: close"),
    }
    answers = {}
    async with full(small, admin, settings):
        for way, request in ways.items():
            async with connected(small) as client:
                client.send(request)
                answers[way] = await client.answer()
                if "Connection: close" in request.decode() or b"HTTP/1.0" in request:
                    assert await client.end() == b""
    first = answers["plain"]
    assert first.problem(503, "overloaded")["instance"] == path
    assert (first.headers["x-request-id"], first.headers["retry-after"], first.headers["vary"]) == ("my-own-id", "1", "Origin")
    for way, answer in answers.items():
        assert answer.problem(503, "overloaded") == first.problem(503, "overloaded"), way
        assert (
            answer.headers.keys() - {"connection", "access-control-allow-origin", "access-control-expose-headers"} == first.headers.keys()
        ), way
    assert answers["of a page in a browser"].headers["access-control-allow-origin"] == ORIGIN


async def test_who_names_no_request_is_given_a_name(small: Server, admin: httpx.AsyncClient, settings: Settings) -> None:
    async with full(small, admin, settings), connected(small) as client:
        names = set()
        for named in ("", "X-Request-ID: no\tgood", "X-Request-ID: short"):
            client.send(get(f"{API}/products", admin, *([named] if named else [])))
            names.add((await client.answer()).problem(503, "overloaded")["request_id"])
    assert {len(name) for name in names} == {32}
    assert len(names) == 3


async def test_the_connection_stays_and_serves_again_when_there_is_room(
    small: Server, admin: httpx.AsyncClient, settings: Settings
) -> None:
    async with connected(small) as client:
        async with full(small, admin, settings):
            for _ in range(3):
                client.send(get(f"{API}/products", admin))
                (await client.answer()).problem(503, "overloaded")
        client.send(get(f"{API}/products", admin))
        assert (await client.answer()).status == 200


async def test_probes_and_metrics_come_in_and_refusals_are_counted(small: Server, admin: httpx.AsyncClient, settings: Settings) -> None:
    before = await metrics(small)
    async with full(small, admin, settings), httpx.AsyncClient(base_url=small.url) as client:
        for path in ("/livez", "/healthz", "/metrics"):
            assert (await client.get(path)).status_code == 200
        for _ in range(20):
            assert (await client.get(f"{API}/products")).status_code == 503
        after = await metrics(small)
    name = "stockroom_admission_refusals_total"
    assert after[name] - before[name] == 20


async def test_who_waits_for_an_answer_gets_that_one_first(small: Server, admin: httpx.AsyncClient, settings: Settings) -> None:
    async with full(small, admin, settings) as (first, *_):
        first.send(get(f"{API}/products/no-such-id", admin))
        await asyncio.sleep(0.2)
        assert first.reader._buffer == b""  # type: ignore[attr-defined] # nothing came before its turn
    # `full` has read the 200 of the request that was first, and closed.


async def test_a_connection_that_is_idle_after_a_refusal_is_closed_in_time(settings: Settings) -> None:
    async with a_connection(settings, places=0) as (connection, client):
        client.send(b"GET /api/v1/products HTTP/1.1\r\n" + HOST + b"\r\n")
        (await client.answer()).problem(503, "overloaded")
        now = asyncio.get_running_loop().time()
        connection.check(now + connection.timeout_keep_alive - 1)
        assert not connection.transport.is_closing()
        connection.check(now + connection.timeout_keep_alive + 1)
        assert await client.end() == b""


async def test_what_is_read_in_one_round_of_the_loop_does_not_pass_as_one() -> None:
    door = Door(Admission(2), varies=False)
    loop = asyncio.get_running_loop()
    for closed in (False, False, True):
        assert door.is_closed is closed
        door.let_in(loop)
    await asyncio.sleep(0)
    assert not door.is_closed
