"""`X-Request-ID`: a client's own name for its request where it is well-formed, else one made here."""

import re
from collections.abc import Iterable
from secrets import token_hex

_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{8,128}")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The id of a request with these headers, whose names are in lower case."""
    for name, value in headers:
        if name == b"x-request-id" and _WELL_FORMED.fullmatch(value):
            return str(value, "ascii")
    # As random as a UUID, at a fifth of its cost.
    return token_hex(16)
