"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a retried request has one effect, and every try gets the same answer."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header
from starlette.requests import Request
from starlette.responses import Response

from app.core.db import WriteSession
from app.core.problems import IdempotencyInProgress, Problem
from app.core.security import Principal
from app.services import idempotency

_KEPT_HEADERS = frozenset({"content-type", "etag", "location"})
_DESCRIPTION = (
    "Your own name for this request, such as a UUID: 1 to 255 visible ASCII characters. Once a request has succeeded, repeating it with the same key and "
    "body gives its answer again instead of a second effect; one that was refused has had none, and its key is free. "
    "Keys are yours alone and are kept for 24 hours (`APP_IDEMPOTENCY_LIFETIME_HOURS`)."
)
_Required = Annotated[str, Header(alias="Idempotency-Key", pattern=r"^[\x21-\x7e]{1,255}$", description=_DESCRIPTION)]
_Optional = Annotated[str | None, Header(alias="Idempotency-Key", pattern=r"^[\x21-\x7e]{1,255}$", description=_DESCRIPTION)]


class Once:
    """Runs a request's effect once for its key; without a key, each time."""

    def __init__(self, key: str | None, request: Request, body: bytes) -> None:
        self._key = key
        self._request = request
        self._body = body

    async def __call__(self, session: WriteSession, principal: Principal, effect: Callable[[], Awaitable[Response]]) -> Response:
        """The effect's response, or the one that was answered before.

        Raises:
            IdempotencyInProgress: the same request is running, or has ended just now.
            IdempotencyKeyReused: the key was used with another body.
        """
        if self._key is None:
            return await effect()
        scope = self._request.scope
        # One id can be written in several ways; a key that comes with another spelling is one that was used for something else.
        sent = scope["path"].encode() + b"\n" + self._body
        route = f"{scope['method']} {scope['route'].path_format}"
        request = idempotency.Request(principal.user_id, route, self._key, sha256(sent).digest())
        if (kept := await idempotency.claim(session, request)) is not None:
            return Response(kept.body, kept.status, kept.headers)
        try:
            response = await effect()
        except Problem:
            # The same request may have ended between this one's look and its lock, and what it did be what stands in the way now.
            if await idempotency.claim(session, request) is not None:
                raise IdempotencyInProgress from None
            raise
        headers = {name: value for name, value in response.headers.items() if name in _KEPT_HEADERS}
        await idempotency.keep(session, request, idempotency.Answer(response.status_code, headers, bytes(response.body)))
        return response


async def _required(request: Request, key: _Required) -> Once:
    return Once(key, request, await request.body())


async def _optional(request: Request, key: _Optional = None) -> Once:
    return Once(key, request, await request.body())


RequiredOnce = Annotated[Once, Depends(_required)]
OptionalOnce = Annotated[Once, Depends(_optional)]
