"""`If-Match` (RFC 9110 section 13.1.1): a change says which version it was made for."""

import re
from typing import Annotated

from fastapi import Depends, Header

from app.core.problems import BadRequest
from app.services.versions import Expected

_ETAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e]*)"\s*(?:,|$)')
_HEADER = Header(
    alias="If-Match", max_length=256, description="The `ETag` of the version this change was made for, or `*` for whichever is current."
)


def parse_if_match(text: str) -> Expected:
    """The versions that an `If-Match` header names.

    Raises:
        BadRequest: the header is malformed.
    """
    if text.strip() == "*":
        return None
    versions, position = set(), 0
    while position < len(text) or not text:
        tag = _ETAG.match(text, position)
        if tag is None:
            raise BadRequest("If-Match is malformed; send the `ETag` as it was given, quotes included.")
        # A weak tag never matches where a strong comparison is asked for (section 8.8.3.2), and neither does what is not a version of ours.
        if not tag[1] and re.fullmatch(r"[1-9][0-9]{0,9}", tag[2]):
            versions.add(int(tag[2]))
        position = tag.end()
    return frozenset(versions)


async def _optional(if_match: Annotated[str | None, _HEADER] = None) -> Expected:
    return None if if_match is None else parse_if_match(if_match)


async def _required(if_match: Annotated[str, _HEADER]) -> Expected:
    return parse_if_match(if_match)


IfMatch = Annotated[Expected, Depends(_optional)]
RequiredIfMatch = Annotated[Expected, Depends(_required)]
"""Without the header the request ends with 428 (`app.api.errors`)."""
