"""What names a request: `X-Request-ID`, a client's own name where it is well-formed, else one made here; and the trace that its `traceparent` names."""

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from random import getrandbits

current_ids: ContextVar[Mapping[str, str]] = ContextVar("current_ids", default={})  # noqa: B039 - never changed
"""What each line of the log says of the request at hand: `request_id`, and `trace_id` where there is one."""

# Never a JWT, sent as an id by mistake: ids are shown in the log and in answers.
_WELL_FORMED = re.compile(rb"(?!eyJ)[A-Za-z0-9._-]{8,128}")
# W3C Trace Context, section 3.2: ff is no version, and ids of zeros are none. Later versions may go on after the flags.
_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The id of a request with these headers, whose names are in lower case."""
    for name, value in headers:
        if name == b"x-request-id" and _WELL_FORMED.fullmatch(value):
            return str(value, "ascii")
    # Nobody gains by guessing one, so no system call for its randomness; the generator is seeded anew in every worker.
    return f"{getrandbits(128):032x}"


def trace_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The trace that a request with these headers, whose names are in lower case, belongs to; None without a well-formed `traceparent`."""
    for name, value in headers:
        if name == b"traceparent":
            found = _TRACEPARENT.fullmatch(value)
            return str(found[2], "ascii") if found and not (found[1] == b"00" and found[3]) else None
    return None
