"""The generator's client: which connection a request takes, and what becomes of one whose asker has left."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtests.exchanges import Operation, get
from loadtests.offering import offer
from loadtests.steps import step_of
from loadtests.wire import Client

ASKED = get("/products", "GET /products")


@asynccontextmanager
async def a_server(taken: Counter[int], *, seconds: float = 0.0) -> AsyncIterator[str]:
    """Answers everything after a while, and counts what each connection, by the client's port, was asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            taken[writer.get_extra_info("peername")[1]] += 1
            await asyncio.sleep(seconds)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_requests_that_come_one_by_one_take_all_connections_in_turn() -> None:
    taken: Counter[int] = Counter()
    async with a_server(taken) as host:
        client = Client(host)
        await client.connect(4)
        for _ in range(40):
            assert (await client.ask(ASKED)).status == 200
        client.close()
    assert sorted(taken.values()) == [10, 10, 10, 10]


async def test_a_server_that_dies_meanwhile_is_in_the_wrong_and_not_the_generator() -> None:
    def asking() -> Operation:
        yield ASKED

    async with a_server(Counter()) as host:
        client = Client(host)
        await client.connect(2)
    client.close()
    due = [number / 100 for number in range(150)]
    offered = await offer(client, due, [asking() for _ in due])
    step = step_of(offered, [], scenario="browse", arrivals="constant", rate=100, seconds=1.5, seed=1)
    assert (step.void, step.dropped, step.total.error_rate) == ("", 0, 1)


async def test_an_answer_that_nobody_waits_for_any_more_harms_nobody() -> None:
    async with a_server(Counter(), seconds=0.1) as host:
        client = Client(host)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await client.ask(ASKED)
        await asyncio.sleep(0.2)
        assert (await client.ask(ASKED)).status == 200
        client.close()
