"""Closing a connection whose client is still sending."""

import asyncio
from collections.abc import Callable


class StagedTransport:
    """A transport that closes in stages where a client is still sending (RFC 9112 section 9.6): a reset could take its answer away before it is read."""

    def __init__(self, transport: asyncio.Transport, in_stages: Callable[[], bool]) -> None:
        self._transport = transport
        self._in_stages = in_stages
        self._half_closed = False
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.write: Callable[[bytes], None] = transport.write

    def drop_answers(self) -> None:
        """Write nothing from now on."""
        self.write = _drop

    def is_closing(self) -> bool:
        """Whether it has been closed, in whatever stage."""
        return self._half_closed or self._transport.is_closing()

    def close(self) -> None:
        """Close it, or where the client is still sending say that there is no more to read."""
        if self.is_closing():
            return
        self._half_closed = self._in_stages()
        if self._half_closed:
            self._transport.write_eof()
        else:
            self._transport.close()


def _drop(_: bytes) -> None:
    pass
