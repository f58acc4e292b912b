"""The door: while there is no place for another request, those that come are turned away as soon as their head is here.

The application refuses them as well, at three times the price: a task, a scope and two messages. This is for the most frequent kind alone, a plain GET
from one who is not a browser's page.
"""

import asyncio
import re
from collections.abc import Sequence

from app.core.admission import Admission
from app.core.draining import is_draining
from app.core.request_ids import request_id

# What needs no decoding, and is not a probe. Nothing that has a body or an Origin stands in such a request's head.
_PLAIN_ADDRESS = re.compile(rb"(/api/[A-Za-z0-9._~:/-]*)(?:\?.*)?")
_NOT_PLAIN = frozenset({b"origin", b"content-length", b"transfer-encoding"})
_STATUS_LINE = b"HTTP/1.1 503 Service Unavailable\r\n"

Headers = Sequence[tuple[bytes, bytes]]


class Door:
    """Says which requests are turned away.

    Args:
        admission: whose places they would need.
        varies: whether answers depend on the Origin, which caches must be told.
    """

    def __init__(self, admission: Admission, *, varies: bool) -> None:
        self._admission = admission
        refusals = admission.refusals
        self._headers = [*refusals.next_headers(), *([(b"vary", b"Origin")] if varies else [])]
        self._next_body = refusals.next_body
        self._server_headers: Headers = ()
        self._head = b""
        self._coming = 0

    @property
    def is_closed(self) -> bool:
        """Whether requests are turned away. Who drains says something else than usual, which is for the application to say."""
        return self._admission.is_full(self._coming) and not is_draining()

    def let_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count a request whose task has not begun. Else all that are read in one round of the loop would pass, to be refused at more expense."""
        if self._coming == 0:
            # Before any task that is made after this.
            loop.call_soon(self._forget_the_coming)
        self._coming += 1

    def refusal(self, url: bytes, headers: Headers, server_headers: Headers) -> bytes | None:
        """The whole answer to a GET; None for what the application has to look at.

        Args:
            url: as in the request line.
            headers: the request's, names in lower case.
            server_headers: which every answer has; the same object for as long as they are the same.
        """
        address = _PLAIN_ADDRESS.fullmatch(url)
        if address is None or not _NOT_PLAIN.isdisjoint(dict(headers)):
            return None
        if server_headers is not self._server_headers:
            self._server_headers, self._head = server_headers, self._head_after(server_headers)
        own_id = request_id(headers).encode()
        body = self._next_body(address[1], own_id)
        return self._head % (len(body), own_id) + body

    def _head_after(self, server_headers: Headers) -> bytes:
        lines = b"".join(b"%b: %b\r\n" % line for line in (*server_headers, *self._headers))
        return _STATUS_LINE + lines.replace(b"%", b"%%") + b"content-length: %d\r\nx-request-id: %b\r\n\r\n"

    def _forget_the_coming(self) -> None:
        self._coming = 0
