"""Documents and pages on the wire."""

from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.pagination import next_cursor
from app.services.documents import Document, Page

_QUERY = "%&=+:;,/?@!$'()*"
"""What may stand in a query as it is (RFC 3986 section 3.4); nothing that could end the `<...>` of a Link."""


def document_answer(document: Document, *, status: int = 200, location: str | None = None) -> Response:
    """A response with the document's bytes as they are, and its version as `ETag`."""
    headers = {}
    if document.version is not None:
        headers["ETag"] = f'"{document.version}"'
    if location is not None:
        headers["Location"] = location
    return Response(document.body, status, headers, "application/json")


def page_answer(page: Page, request: Request) -> Response:
    """A response with the page's items, and the address of the next page in `Link` (RFC 8288)."""
    headers = {}
    cursor = None
    if page.next_after is not None:
        cursor = next_cursor(request, page.next_after)
        query = [part for part in request.scope["query_string"].decode("latin-1").split("&") if part and not part.startswith("cursor=")]
        headers["Link"] = f'<{request.scope["path"]}?{quote("&".join([*query, f"cursor={cursor}"]), safe=_QUERY)}>; rel="next"'
    return Response(
        b'{"items":' + page.items + b',"next_cursor":' + orjson.dumps(cursor) + b"}",
        headers=headers,
        media_type="application/json",
    )
