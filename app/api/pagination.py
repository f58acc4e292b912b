"""Keyset pagination: a cursor holds the sort key of the last item seen, so a deep page costs what the first one costs."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated
from zlib import crc32

import orjson
from fastapi import Depends, Query
from starlette.requests import Request

from app.core.problems import BadRequest
from app.services.documents import MAX_PAGE

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most this many items a page.")]
_Cursor = Annotated[
    str | None,
    Query(min_length=1, max_length=512, description="`next_cursor` of the page before. Keep the other parameters as they were."),
]


def encode_cursor(after: tuple[str, ...]) -> str:
    """An opaque text for a sort key."""
    return urlsafe_b64encode(orjson.dumps(after)).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> tuple[str, ...]:
    """The sort key in a cursor.

    Raises:
        BadRequest: nothing that `encode_cursor` made.
    """
    try:
        after = orjson.loads(urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except ValueError:
        raise BadRequest("The cursor is malformed; send `next_cursor` as it was given, or none to start anew.") from None
    good = isinstance(after, list) and all(isinstance(part, str) and "\x00" not in part for part in after)
    # base64 passes over characters that are none of its own.
    if not good or encode_cursor(tuple(after)) != cursor:
        raise BadRequest("The cursor is malformed; send `next_cursor` as it was given, or none to start anew.")
    return tuple(after)


def next_cursor(request: Request, after: tuple[str, ...]) -> str:
    """The cursor that continues the list of this request after a sort key; good for this list and these filters only."""
    return encode_cursor((_mark(request), *after))


async def _after(request: Request, cursor: _Cursor = None) -> tuple[str, ...] | None:
    if cursor is None:
        return None
    match decode_cursor(cursor):
        case (mark, *after) if mark == _mark(request):
            return tuple(after)
    raise BadRequest("The cursor belongs to another list; send it with the parameters it was given for, or none to start anew.")


def _mark(request: Request) -> str:
    filters = sorted(item for item in request.query_params.multi_items() if item[0] not in ("cursor", "limit"))
    return f"{crc32(orjson.dumps((request.scope['path'], filters))):08x}"


After = Annotated[tuple[str, ...] | None, Depends(_after)]
"""The sort key to continue after, from the `cursor` parameter; its parts are checked by the service that made it."""
