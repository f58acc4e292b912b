"""Load from inside the cluster, with nothing but the image's own Python: `python -c "$(cat load.py)" URL ...`, until standard input ends.

Clients keep their connections. Each failed request is a line of JSON when it happens; at the end comes one line with the sums. Meanwhile pg_stat_activity
is looked at twenty times a second.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

_TIMEOUT_SECONDS = 20.0
_SAMPLE_SECONDS = 0.05
_VARIANTS = 20
_LOCATION = "LOAD-1"
_BACKENDS = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY application_name
"""


class RequestFailedError(Exception):
    """A request has no answer, or one that says no."""


@dataclass
class Totals:
    """What one run saw.

    Attributes:
        acknowledged: units of stock that were added and acknowledged, by SKU.
        attempted: those that were sent, acknowledged or not.
        peak_connections: the most client backends in one sample.
        peak_by_application: what they were.
        longest_pause_seconds: the longest time in which no request was answered.
    """

    sent: int = 0
    failed: int = 0
    seconds: float = 0
    slowest_ms: float = 0
    longest_pause_seconds: float = 0
    connections_made: int = 0
    asked_to_leave: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    attempted: Counter[str] = field(default_factory=Counter)
    peak_connections: int = 0
    peak_by_application: dict[str, int] = field(default_factory=dict)
    samples: int = 0


class Connection:
    """One keep-alive connection, made anew when the server asked for that or has closed it."""

    def __init__(self, host: str, port: int, totals: Totals) -> None:
        self._address = host, port
        self._totals = totals
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._made_at = 0.0
        self._used = 0

    async def exchange(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """Send a request; status, headers and body of its answer.

        Raises:
            RequestFailedError: there is none; tells how old the connection was.
        """
        step = "connecting"
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                reader, writer = await self._connected()
                step = f"request {self._used} of a connection that is {time.monotonic() - self._made_at:.2f} s old"
                self._used += 1
                lines = [f"{method} {path} HTTP/1.1", f"Host: {self._address[0]}", *(f"{name}: {value}" for name, value in headers.items())]
                if method != "GET":
                    lines.append(f"Content-Length: {len(body)}")
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                content = await reader.readexactly(int(found["content-length"]))
        except (OSError, EOFError, TimeoutError) as error:
            self.close()
            raise RequestFailedError(f"{type(error).__name__}: {error} ({step})") from None
        if found.get("connection", "").lower() == "close":
            self._totals.asked_to_leave += 1
            self.close()
        return int(head[0].split()[1]), found, content

    def close(self) -> None:
        """Close it; the next request makes another."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # A server may close a connection that nobody uses; who sees that in time sends nothing into it (RFC 9112 section 9.5).
        if self._reader is not None and self._reader.at_eof():
            self.close()
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address)
            self._totals.connections_made += 1
            self._made_at, self._used = time.monotonic(), 0
        return self._reader, self._writer


class Load:
    """Clients that read variants, page through products and add units of stock.

    Args:
        rate: requests a second of all clients together; 0 for as many as are answered.
    """

    def __init__(self, url: str, *, email: str, password: str, clients: int, rate: float) -> None:
        address = urlsplit(url)
        self._address = address.hostname or "", address.port or 80
        self._login = {"username": email, "password": password}
        self._clients = clients
        self._pause_seconds = clients / rate if rate else 0.0
        self._headers: dict[str, str] = {}
        self._skus = [f"LOAD-{number:03}" for number in range(_VARIANTS)]
        self._answered_at = time.monotonic()
        self.totals = Totals()
        self.connected = 0

    async def prepare(self) -> None:
        """Log in, and make what is missing to read and to write."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        token = await self._must("POST", "/auth/login", urlencode(self._login).encode(), form)
        self._headers = {"Authorization": f"Bearer {token['access_token']}", "Content-Type": "application/json"}
        if not await self._is_there(f"/variants/{self._skus[0]}"):
            await self._must("POST", "/locations", json.dumps({"code": _LOCATION, "name": "Load"}).encode())
            variants = [{"sku": sku, "options": {"Size": sku}, "prices": [{"amount": 100, "currency": "EUR"}]} for sku in self._skus]
            product = {"name": "Load", "slug": "load", "status": "active", "variants": variants}
            await self._must("POST", "/products", json.dumps(product).encode())

    async def levels(self) -> dict[str, int]:
        """Units on hand by SKU."""
        found = {}
        for sku in self._skus:
            items = (await self._must("GET", f"/stock?sku={sku}&location={_LOCATION}"))["items"]
            found[sku] = items[0]["on_hand"] if items else 0
        return found

    async def run(self, over: asyncio.Event) -> None:
        """Load until told that it is over."""
        began = self._answered_at = time.monotonic()
        await asyncio.gather(*(self._work(over, number) for number in range(self._clients)))
        self.totals.seconds = time.monotonic() - began

    async def _work(self, over: asyncio.Event, number: int) -> None:
        connection = Connection(*self._address, self.totals)
        due = time.monotonic() + self._pause_seconds * number / self._clients
        answered = False
        while not over.is_set():
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            # Who fell behind does not catch up: then the others would be overloaded, and this is no test of that.
            due = max(due + self._pause_seconds, time.monotonic())
            try:
                await self._request(connection)
                self.connected += not answered
                answered = True
            except RequestFailedError as error:
                self.totals.failed += 1
                report({"failed": str(error), "client": number})
                await asyncio.sleep(0.05)
        connection.close()

    async def _request(self, connection: Connection) -> None:
        sku = random.choice(self._skus)
        kind = random.random()
        began = time.monotonic()
        self.totals.sent += 1
        if kind < 0.6:
            await self._ask(connection, "GET", f"/variants/{sku}")
        elif kind < 0.75:
            await self._ask(connection, "GET", "/products?limit=20")
        else:
            adjustment = {"lines": [{"sku": sku, "location": _LOCATION, "delta": 1}], "reason": "received"}
            self.totals.attempted[sku] += 1
            await self._ask(connection, "POST", "/stock/adjustments", json.dumps(adjustment).encode())
            self.totals.acknowledged[sku] += 1
        now = time.monotonic()
        self.totals.slowest_ms = max(self.totals.slowest_ms, (now - began) * 1000)
        self.totals.longest_pause_seconds = max(self.totals.longest_pause_seconds, now - self._answered_at)
        self._answered_at = now

    async def _ask(self, connection: Connection, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        headers = headers or {**self._headers, **({} if method == "GET" else {"Idempotency-Key": uuid4().hex})}
        status, answered, content = await connection.exchange(method, f"/api/v1{path}", headers, body)
        if status >= 300:
            raise RequestFailedError(f"{status} {answered.get('x-request-id')} to {method} {path}: {content[:300].decode()}")
        return json.loads(content)

    async def _must(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        connection = Connection(*self._address, Totals())
        try:
            return await self._ask(connection, method, path, body, headers)
        finally:
            connection.close()

    async def _is_there(self, path: str) -> bool:
        try:
            await self._must("GET", path)
        except RequestFailedError as error:
            if str(error).startswith("404"):
                return False
            raise
        return True


async def watch_connections(database_url: str, totals: Totals) -> None:
    """Count client backends until cancelled; the database may go away and come back."""
    import psycopg

    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                database_url, autocommit=True, connect_timeout=2, application_name="stockroom-load"
            ) as connection:
                while True:
                    rows = await (await connection.execute(_BACKENDS)).fetchall()
                    totals.samples += 1
                    if (count := sum(row[1] for row in rows)) > totals.peak_connections:
                        totals.peak_connections, totals.peak_by_application = count, dict(rows)
                    await asyncio.sleep(_SAMPLE_SECONDS)
        except psycopg.OperationalError:
            await asyncio.sleep(0.5)


def report(line: dict[str, Any]) -> None:
    """Tell the test."""
    sys.stdout.write(json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Run until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--email", default="admin@example.com")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--levels", action="store_true", help="only tell the units on hand")
    options = parser.parse_args()
    load = Load(options.url, email=options.email, password=os.environ["PASSWORD"], clients=options.clients, rate=options.rate)
    await load.prepare()
    if options.levels:
        report({"levels": await load.levels()})
        return
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, _at_end(over))
    watching = asyncio.create_task(watch_connections(os.environ["DATABASE_URL"], load.totals))
    running = asyncio.create_task(load.run(over))
    # Not before each client has a connection: what is done to the pods then shall concern all of them.
    while load.connected < options.clients and not running.done():
        await asyncio.sleep(0.05)
    report({"started": True})
    await running
    watching.cancel()
    report({"totals": vars(load.totals)})


def _at_end(over: asyncio.Event) -> Callable[[], None]:
    def look() -> None:
        if os.read(0, 1024) == b"":
            asyncio.get_running_loop().remove_reader(0)
            over.set()

    return look


if __name__ == "__main__":
    asyncio.run(main())
