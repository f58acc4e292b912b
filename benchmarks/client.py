"""A client that costs little: fixed requests over keep-alive connections, each sent when the answer before it is there."""

import asyncio
from collections.abc import Sequence


async def send_all(port: int, requests: Sequence[bytes], *, connections: int, expected_status: int | None) -> None:
    """Send every request once, spread over the connections, and read every answer whole.

    Args:
        port: where to.
        requests: their bytes.
        connections: how many are open at once.
        expected_status: of every answer; None for any that is a success.

    Raises:
        AssertionError: an answer has another status; shows its beginning.
    """
    waiting = iter(requests)

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for request in waiting:
                status, head, body = await exchange(reader, writer, request)
                if status != expected_status if expected_status else status >= 300:
                    raise AssertionError(f"expected {expected_status or 'success'}: {head.decode()} {body[:500]!r}")
        finally:
            writer.close()

    await asyncio.gather(*(work() for _ in range(connections)))


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
