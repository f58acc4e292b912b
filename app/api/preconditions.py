"""`If-Match` (RFC 9110 section 13.1.1): a change says which version it was made for."""

import re
from typing import Annotated

from fastapi import Depends, Header

from app.services.versions import Expected

PATTERN = r'^(\*|[ \t,]*(W/)?"[!#-~]*"([ \t]*,[ \t,]*(W/)?"[!#-~]*")*[ \t,]*)$'
"""`*`, or a list of entity tags, whose empty elements count for nothing (RFC 9110 section 5.6.1.2)."""

_ETAG = re.compile(r'(W/)?"([!#-~]*)"')
_HEADER = Header(
    alias="If-Match",
    max_length=256,
    pattern=PATTERN,
    examples=['"1"'],
    description="The `ETag` of the version this change was made for, or `*` for whichever is current.",
)


def parse_if_match(text: str) -> Expected:
    """The versions that an `If-Match` header of the form `PATTERN` names."""
    if text == "*":
        return None
    # A weak tag never matches where a strong comparison is asked for (section 8.8.3.2), and neither does what is not a version of ours.
    return frozenset(int(tag) for weak, tag in _ETAG.findall(text) if not weak and re.fullmatch(r"[1-9][0-9]{0,9}", tag))


async def _optional(if_match: Annotated[str | None, _HEADER] = None) -> Expected:
    return None if if_match is None else parse_if_match(if_match)


async def _required(if_match: Annotated[str, _HEADER]) -> Expected:
    return parse_if_match(if_match)


IfMatch = Annotated[Expected, Depends(_optional)]
RequiredIfMatch = Annotated[Expected, Depends(_required)]
"""Without the header the request ends with 428 (`app.api.errors`)."""
