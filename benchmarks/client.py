"""A client that costs little: fixed requests over keep-alive connections, each sent when the answer before it is there."""

import asyncio
from collections.abc import Sequence


async def send_all(port: int, requests: Sequence[bytes], *, connections: int, expected_status: int) -> None:
    """Send every request once, spread over the connections, and read every answer whole.

    Raises:
        AssertionError: an answer has another status; shows its beginning.
    """
    waiting = iter(requests)

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for request in waiting:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(_header(head, b"content-length:"))
                body = await reader.readexactly(length)
                if int(head[9:12]) != expected_status:
                    raise AssertionError(f"expected {expected_status}: {head.decode()} {body[:500]!r}")
        finally:
            writer.close()

    await asyncio.gather(*(work() for _ in range(connections)))


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A request's bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    if method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _header(head: bytes, name: bytes) -> bytes:
    start = head.lower().index(name) + len(name)
    return head[start : head.index(b"\r\n", start)].strip()
