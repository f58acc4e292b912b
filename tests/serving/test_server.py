"""The server as it is run: real processes on real ports, ended by signals."""

import asyncio
import json
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from functools import partial

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.core.config import Settings
from tests.serving.servers import (
    COMMAND,
    DRAIN_SECONDS,
    END_SECONDS,
    ROOT,
    START_SECONDS,
    Server,
    environment_of,
    free_port,
    serving,
    somebody_waits_for_a_lock,
    until,
)
from tests.shop import API, a_location


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    return environment_of(settings)


@dataclass
class Crowd:
    """Keep-alive clients that ask again and again, on a new connection where the old one was closed, until nobody listens any more."""

    port: int
    paths: tuple[str, ...]
    answered: int = 0
    lost: list[str] = field(default_factory=list)
    saw_draining: bool = False
    while_draining: set[tuple[str, int, bool]] = field(default_factory=set)
    """Path, status, and whether the connection was closed, of what was asked after somebody had seen the draining."""

    async def ask(self, size: int) -> None:
        await asyncio.gather(*(self._ask(self.paths[number % len(self.paths)], pause=0.02 * (number % 3)) for number in range(size)))

    async def _ask(self, path: str, pause: float) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                return
            try:
                while not await self._closes(reader, writer, path):
                    await asyncio.sleep(pause)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(f"{path}: {error!r}")
            finally:
                writer.close()

    async def _closes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bool:
        saw_draining = self.saw_draining
        writer.write(f"GET {path} HTTP/1.1\r\nHost: stockroom.test\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        closes = b"connection: close" in head
        self.answered += 1
        self.saw_draining |= closes
        if saw_draining:
            self.while_draining.add((path, int(head.split()[1]), closes))
        return closes


async def test_a_server_that_is_told_to_stop_drains_loses_nothing_and_ends_in_time(
    admin: httpx.AsyncClient, environment: dict[str, str], database_url: str
) -> None:
    place = await a_location(admin, "BER-1")
    async with (
        serving(environment) as server,
        httpx.AsyncClient(base_url=server.url, headers=admin.headers, timeout=30) as client,
        await psycopg.AsyncConnection.connect(database_url) as holder,
    ):
        behind_a_proxy = {"X-Forwarded-For": "203.0.113.9"}
        assert (await client.get(f"{API}/locations", headers=behind_a_proxy)).json()["items"] == [place]
        crowd = Crowd(server.port, ("/livez", "/healthz", f"{API}/products", "/nowhere"))
        asking = asyncio.create_task(crowd.ask(12))
        await until(lambda: crowd.answered > 100, 30)

        # Two requests in flight: one waits for a row that is free only when nobody listens any more, of the other half of the head has come.
        await holder.execute("SELECT FROM location FOR UPDATE")
        slow_reader, slow_writer = await asyncio.open_connection("127.0.0.1", server.port)
        slow_writer.write(b"GET /livez HTTP/1.1\r\n")
        in_flight = asyncio.create_task(client.patch(f"{API}/locations/{place['id']}", json={"name": "Berlin"}))
        await until(lambda: somebody_waits_for_a_lock(database_url), 10)

        server.process.terminate()
        started = time.monotonic()
        async with asyncio.timeout(END_SECONDS):
            await asking
        assert time.monotonic() - started >= DRAIN_SECONDS
        assert not in_flight.done()
        await holder.rollback()
        answer = await in_flight
        slow_writer.write(b"Host: stockroom.test\r\n\r\n")
        slow_answer = (await slow_reader.read()).lower()
        slow_writer.close()
        code, output = await server.end(started + END_SECONDS - time.monotonic())

    assert code == 0
    assert crowd.lost == []
    assert crowd.while_draining == {("/livez", 200, True), ("/healthz", 503, True), (f"{API}/products", 401, True), ("/nowhere", 404, True)}
    assert (answer.status_code, answer.json()["name"], answer.headers["Connection"]) == (200, "Berlin", "close")
    assert slow_answer.startswith(b"http/1.1 200 ok")
    assert b"connection: close" in slow_answer

    lines = [json.loads(line) for line in output.splitlines()]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert {line.get("logger") for line in lines} == {None, "gunicorn.error", "uvicorn.error"}
    # What waited for the row was slow.
    slow = f"{API}/locations/{{location_id}}"
    warnings = {(line["event"], line["route"]) for line in lines if line["level"] != "info"}
    assert warnings == {("request", slow), ("slow_query", slow)}
    served = [line for line in lines if line["event"] == "request" and line["status"] == 200]
    assert {line["route"] for line in served if "requests" not in line} == {f"{API}/locations", slow}
    assert {line["route"] for line in served if "requests" in line} == {"/livez", "/healthz"}
    for secret in (
        environment["APP_DATABASE_URL"],
        environment["APP_SIGNING_KEYS"].splitlines()[1],
        admin.headers["Authorization"].split()[1],
    ):
        assert secret.encode() not in output


async def test_a_server_that_is_told_to_drain_first_loses_nothing_and_then_stops_without_waiting_again(environment: dict[str, str]) -> None:
    drain_seconds = 3.0
    async with serving(environment | {"APP_CPU_LIMIT": "2", "APP_DRAIN_SECONDS": str(drain_seconds)}) as server:
        crowd = Crowd(server.port, ("/livez", "/healthz", f"{API}/products", "/nowhere"))
        asking = asyncio.create_task(crowd.ask(12))
        await until(lambda: crowd.answered > 100, 30)
        workers, started = server.workers, time.monotonic()
        assert await _drain(server, environment | {"APP_DRAIN_SECONDS": str(drain_seconds)}) == 0
        assert time.monotonic() - started >= drain_seconds

        # Each worker looks ten times a second; by now both have.
        crowd.while_draining.clear()
        answered = crowd.answered
        await until(lambda: crowd.answered > answered + 100, 30)
        assert server.workers == workers
        server.process.terminate()
        told_at = time.monotonic()
        await asyncio.wait_for(asking, END_SECONDS)
        code, _ = await server.end()
        assert time.monotonic() - told_at < drain_seconds

    assert code == 0
    assert crowd.lost == []
    assert crowd.while_draining == {("/livez", 200, True), ("/healthz", 503, True), (f"{API}/products", 401, True), ("/nowhere", 404, True)}


async def test_a_worker_that_starts_while_the_server_drains_drains_too(environment: dict[str, str]) -> None:
    async with serving(environment) as server, httpx.AsyncClient(base_url=server.url, headers={"Connection": "close"}) as client:
        (victim,) = server.workers
        assert await _drain(server, environment | {"APP_DRAIN_SECONDS": "0"}) == 0
        os.kill(victim, signal.SIGKILL)
        await until(lambda: server.workers - {victim} and server.takes_connections(), START_SECONDS)
        await until(lambda: _is_draining(client), START_SECONDS)


async def test_draining_where_no_server_runs_is_a_clear_error(environment: dict[str, str]) -> None:
    code, errors = await _failing(environment | {"APP_PORT": str(port := free_port())}, "drain")
    assert code == 1
    assert errors.startswith(f"error: no `stockroom serve` of this user is listening on port {port} here\n")


async def test_the_numbers_of_two_workers_add_up_also_when_one_was_killed_and_ctrl_c_ends_both_at_once(environment: dict[str, str]) -> None:
    async with serving({**environment, "APP_CPU_LIMIT": "2", "APP_DRAIN_SECONDS": "30"}) as server:
        assert len(server.workers) == 2
        route, expected = f"{API}/products/{{product_id}}", 0
        for _ in range(2):
            expected += await _ask_on_connections_of_their_own(server, f"{API}/products/made-up", 40)
            assert await _requests(server, route) == expected
            victim = max(server.workers)
            os.kill(victim, signal.SIGKILL)
            await until(partial(_is_replaced, server, victim), START_SECONDS)
            assert await _requests(server, route) == expected
        server.process.send_signal(signal.SIGINT)
        code, output = await server.end()
    assert code == 0
    assert b"SIGKILL" not in output.partition(b"Handling signal: int")[2]


async def test_a_server_ends_when_whoever_started_it_is_killed(environment: dict[str, str]) -> None:
    async with serving(environment, "-c", _STARTS_A_SERVER) as server:
        server.process.kill()
        await server.end()
        assert not server.takes_connections()


async def test_workers_end_when_their_arbiter_is_killed(environment: dict[str, str]) -> None:
    """Here the settings are those of the caller, as with the database of a data folder, and not of the environment."""
    url = environment.pop("APP_DATABASE_URL")
    async with serving(environment, "-c", _SERVES_A_DATABASE, url) as server:
        assert len(server.workers) == 1
        server.process.kill()
        await server.end()
        assert not server.takes_connections()


async def test_a_taken_port_is_one_clear_line_and_what_to_do(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, errors = await _failing({**environment, "APP_PORT": str(port)})
    assert code == 1
    assert errors.splitlines() == [
        f"error: cannot listen on 127.0.0.1 port {port}: Address already in use",
        f"  choose another:  --port {port + 1}",
    ]


async def test_a_capacity_that_does_not_fit_is_refused_with_the_arithmetic(environment: dict[str, str]) -> None:
    code, errors = await _failing({**environment, "APP_PORT": str(free_port()), "APP_REPLICA_CEILING": "5000"})
    assert code == 1
    assert errors.startswith("error: ")
    assert "max_connections" in errors
    assert "Traceback" not in errors


_STARTS_A_SERVER = """
import os, subprocess, sys
from app.core.orphans import child_environment
subprocess.run([sys.executable, "-m", "app.cli", "serve"], env={**os.environ, **child_environment()})
"""

_SERVES_A_DATABASE = """
import sys
from app.core.config import get_settings
from app.core.server import serve
serve(get_settings().with_database(sys.argv[1]))
"""


async def _drain(server: Server, environment: dict[str, str]) -> int:
    """The exit code of `stockroom drain`."""
    process = await asyncio.create_subprocess_exec(*COMMAND, "drain", cwd=ROOT, env=environment | {"APP_PORT": str(server.port)})
    return await process.wait()


async def _is_draining(client: httpx.AsyncClient) -> bool:
    checks: dict[str, str] = (await client.get("/healthz")).json()["checks"]
    return checks["draining"] != "ok"


async def _failing(environment: dict[str, str], command: str = "serve") -> tuple[int | None, str]:
    """A command that cannot start: its exit code, and what it writes on standard error."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), START_SECONDS)
    assert output == b""
    return process.returncode, errors.decode()


def _is_replaced(server: Server, victim: int) -> bool:
    return len(server.workers - {victim}) == 2


async def _ask_on_connections_of_their_own(server: Server, path: str, times: int) -> int:
    async with httpx.AsyncClient(base_url=server.url, timeout=START_SECONDS, headers={"Connection": "close"}) as client:
        for _ in range(times):
            assert (await client.get(path)).status_code == 401
    return times


async def _requests(server: Server, route: str) -> float:
    """How many requests the metrics have counted for a route, whichever worker answers."""
    async with httpx.AsyncClient(base_url=server.url, timeout=START_SECONDS) as client:
        text = (await client.get("/metrics")).text
    assert "made-up" not in text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "stockroom_http_request_duration_seconds_count" and sample.labels["route"] == route
    )
