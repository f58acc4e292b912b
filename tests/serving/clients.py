"""Clients that speak to a server byte by byte, and what the server tells about them."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.config import Config
from uvicorn.server import ServerState

from app.core.admission import Admission
from app.core.config import Settings
from app.core.door import Door
from app.core.protocol import LimitedProtocol
from tests.serving.servers import Server, until
from tests.shop import API

HOST = b"Host: stockroom.test\r\n"
ORIGIN = "https://shop.test"
HEAD_SECONDS = 1.0
BODY_SECONDS = 1.2
SEND_SECONDS = 1.0
SOON = 5.0
"""Seconds, for what happens at once on a machine that is not too busy."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self, status: int, name: str) -> dict[str, Any]:
        """The problem, after checking what every problem has."""
        assert (self.status, self.headers["content-type"]) == (status, "application/problem+json"), self
        body: dict[str, Any] = json.loads(self.body)
        assert (body["type"], body["status"], body["request_id"]) == (f"/problems/{name}", status, self.headers["x-request-id"])
        assert body.keys() == {"type", "title", "status", "detail", "instance", "request_id"}
        return body


@dataclass
class Client:
    """One connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, seconds: float = SOON) -> Answer:
        async with asyncio.timeout(seconds):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)

    async def end(self, seconds: float = SOON) -> bytes:
        """What comes until the server closes."""
        async with asyncio.timeout(seconds):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def trickle(self, part: bytes, pause: float = 0.1) -> None:
        while not self.writer.is_closing():
            self.send(part)
            await asyncio.sleep(pause)


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", server.port))
    try:
        yield client
    finally:
        client.writer.close()


def log_of(server: Server, request_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in list(server.log) if request_id.encode() in line]


async def the_log_of(server: Server, request_id: str) -> dict[str, Any]:
    """The one line about a request."""
    await until(lambda: log_of(server, request_id), SOON)
    (line,) = log_of(server, request_id)
    return line


async def refusals(server: Server) -> dict[str, float]:
    async with httpx.AsyncClient(base_url=server.url) as client:
        families = text_string_to_metric_families((await client.get("/metrics")).text)
    return {
        sample.labels["reason"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "stockroom_http_refusals_total"
    }


def a_post(admin: httpx.AsyncClient, rest: bytes, *headers: str) -> bytes:
    """A request to make a location, whose body is read; `rest` begins with its last headers."""
    lines = [
        f"POST {API}/locations HTTP/1.1",
        f"Authorization: {admin.headers['Authorization']}",
        "Content-Type: application/json",
        *headers,
    ]
    return "".join(f"{line}\r\n" for line in lines).encode() + HOST + rest


@asynccontextmanager
async def a_connection(settings: Settings) -> AsyncIterator[tuple[LimitedProtocol, Client]]:
    """One that has been answered once, in this process and with nobody who checks it."""
    app = Starlette(routes=[Route("/", _say_done)])
    app.state.settings = settings
    app.state.door = Door(Admission(sys.maxsize), varies=False)
    config = Config(app, log_config=None, timeout_keep_alive=75)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(
        lambda: LimitedProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    ) as listener:
        client = Client(*await asyncio.open_connection(*listener.sockets[0].getsockname()))
        client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await client.answer()).body == b"done"
        (connection,) = state.connections
        assert isinstance(connection, LimitedProtocol)
        yield connection, client
        client.writer.close()


async def _say_done(_: Request) -> Response:
    return Response("done")
