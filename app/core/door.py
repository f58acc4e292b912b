"""The door: while there is no place for another request, those that come are turned away as soon as their head is here.

The application refuses them as well, at three times the price: a task, a scope and two messages. This is for the most frequent kind alone, a plain GET
from one who is not a browser's page.
"""

import re
from collections.abc import Sequence

from app.core.admission import Admission
from app.core.draining import is_draining
from app.core.request_ids import request_id

# What needs no decoding, and is not a probe. Nothing that has a body or an Origin stands in such a request's head.
_PLAIN_ADDRESS = re.compile(rb"(/api/[A-Za-z0-9._~:/-]*)(?:\?.*)?")
_NOT_PLAIN = (b"origin", b"content-length", b"transfer-encoding")
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
        self._headers = [*refusals.headers, *([(b"vary", b"Origin")] if varies else [])]
        self._next_body = refusals.next_body

    @property
    def is_closed(self) -> bool:
        """Whether requests are turned away. Who drains says something else than usual, which is for the application to say."""
        return self._admission.is_full and not is_draining()

    def refusal(self, url: bytes, headers: Headers, server_headers: Headers) -> bytes | None:
        """The whole answer to a GET; None for what the application has to look at.

        Args:
            url: as in the request line.
            headers: the request's, names in lower case.
            server_headers: which every answer has.
        """
        address = _PLAIN_ADDRESS.fullmatch(url)
        if address is None or any(name in _NOT_PLAIN for name, _ in headers):
            return None
        own_id = request_id(headers).encode()
        body = self._next_body(address[1], own_id)
        lines = [*server_headers, *self._headers, (b"content-length", b"%d" % len(body)), (b"x-request-id", own_id)]
        return b"".join([_STATUS_LINE, *(b"%b: %b\r\n" % line for line in lines), b"\r\n", body])
