"""A client that costs little: fixed requests over keep-alive connections, each sent when the answer before it is there."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def send_all(port: int, requests: Sequence[bytes], *, connections: int, expected_status: int | None) -> None:
    """Send every request once, spread over connections of their own, and read every answer whole.

    Args:
        port: where to.
        requests: their bytes.
        connections: how many are open at once, each of which waits for an answer.
        expected_status: of every answer; None for any that is a success.

    Raises:
        AssertionError: an answer has another status; shows its beginning.
    """
    async with connected(port, connections) as free:
        await send_over(free, requests, at_once=connections, expected_status=expected_status)


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[deque[Connection]]:
    """So many connections, closed at the end."""
    opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(count)))
    try:
        yield deque(opened)
    finally:
        for _, writer in opened:
            writer.close()


async def send_over(free: deque[Connection], requests: Sequence[bytes], *, at_once: int, expected_status: int | None) -> None:
    """Send every request once, each over the connection that has lain idle longest, and read every answer whole.

    Args:
        free: the connections.
        requests: their bytes.
        at_once: how many wait for an answer.
        expected_status: of every answer; None for any that is a success.

    Raises:
        AssertionError: an answer has another status; shows its beginning.
    """
    waiting = iter(requests)

    async def work() -> None:
        for request in waiting:
            reader, writer = free.popleft()
            status, head, body = await exchange(reader, writer, request)
            if status != expected_status if expected_status else status >= 300:
                raise AssertionError(f"expected {expected_status or 'success'}: {head.decode()} {body[:500]!r}")
            free.append((reader, writer))

    await asyncio.gather(*(work() for _ in range(at_once)))


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes, bytes]:
    """Send a request; the status, the head and the body of its answer.

    Raises:
        OSError: the connection was lost; `asyncio.IncompleteReadError` when it ended within the answer.
    """
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(_header(head, b"content-length:")))
    return int(head[9:12]), head, body


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A request's bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    if method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _header(head: bytes, name: bytes) -> bytes:
    start = head.lower().index(name) + len(name)
    return head[start : head.index(b"\r\n", start)].strip()
