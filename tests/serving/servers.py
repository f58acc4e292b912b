"""A `stockroom serve` of real processes on a real port, for tests that look at it from outside."""

import asyncio
import contextlib
import inspect
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from app.core.config import Settings
from app.core.draining import remove_order

COMMAND = (sys.executable, "-m", "app.cli")
ROOT = Path(__file__).parents[2]
START_SECONDS = 60
DRAIN_SECONDS = 1.0
SHUTDOWN_SECONDS = 8.0
END_SECONDS = DRAIN_SECONDS + SHUTDOWN_SECONDS


class Server:
    """A `stockroom serve` and whatever it starts."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        assert process.stdout is not None
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log: list[bytes] = []
        self._logging = asyncio.create_task(self._read(process.stdout))

    @property
    def workers(self) -> set[int]:
        return {int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()}

    def takes_connections(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    async def end(self, seconds: float = END_SECONDS) -> tuple[int, bytes]:
        """Its exit code and all it wrote, when it and whatever it started have ended."""
        async with asyncio.timeout(seconds):
            await self._logging
            return await self.process.wait(), b"".join(self.log)

    async def _read(self, output: asyncio.StreamReader) -> None:
        async for line in output:
            self.log.append(line)


def environment_of(settings: Settings) -> dict[str, str]:
    """Of one worker, which understands the tokens of the tests."""
    assert settings.signing_keys is not None
    return {
        **os.environ,
        "APP_DATABASE_URL": settings.require_database_url(),
        "APP_SIGNING_KEYS": settings.signing_keys.get_secret_value(),
        "APP_CPU_LIMIT": "1",
        "APP_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "APP_SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS),
        "APP_LOCK_TIMEOUT_SECONDS": "20",
        "APP_STATEMENT_TIMEOUT_SECONDS": "20",
    }


@asynccontextmanager
async def serving(environment: dict[str, str], *command: str) -> AsyncIterator[Server]:
    """A server that is ready; it and all it started are gone afterwards."""
    async with started(environment, *command) as server:
        await until_ready(server)
        yield server


@asynccontextmanager
async def started(environment: dict[str, str], *command: str) -> AsyncIterator[Server]:
    """As `serving`, ready or not."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *((sys.executable, *command) if command else (*COMMAND, "serve")),
        cwd=ROOT,
        env={**environment, "APP_PORT": str(port)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    server = Server(process, port)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        # Of one that had no time to tidy up.
        remove_order(port)


async def until_ready(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=5) as client:
        await until(lambda: _is_ready(client, server.process), START_SECONDS)


async def until(holds: Callable[[], Any], seconds: float) -> None:
    """Wait for something that can be seen from outside."""
    async with asyncio.timeout(seconds):
        while not (await result if inspect.isawaitable(result := holds()) else result):
            await asyncio.sleep(0.05)


async def somebody_waits_for_a_lock(database_url: str) -> bool:
    # On a connection of its own: within a transaction PostgreSQL shows the same activity again and again.
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        cursor = await connection.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
        return bool(await cursor.fetchall())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


async def _is_ready(client: httpx.AsyncClient, process: asyncio.subprocess.Process) -> bool:
    assert process.returncode is None, "it ended instead"
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False
