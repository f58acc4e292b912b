"""Errors on the wire: problem+json (RFC 9457), its OpenAPI, and the pages that its types point at."""

import asyncio
from html import escape
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match
from starlette.types import Scope

from app.core.db import problem_from as database_problem_from
from app.core.problems import (
    MEDIA_TYPE,
    PROBLEMS,
    BadRequest,
    DatabaseUnavailable,
    DeadlineExceeded,
    HeadersTooLarge,
    InternalError,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PreconditionRequired,
    Problem,
    RequestTimeout,
    TooManyRequests,
    ValidationFailed,
)

router = APIRouter()

# The first five are the protocol's too, which answers before there is a route (app/core/protocol.py).
_EVERYWHERE: tuple[type[Problem], ...] = (
    BadRequest,
    RequestTimeout,
    PayloadTooLarge,
    TooManyRequests,
    HeadersTooLarge,
    InternalError,
    Overloaded,
    DatabaseUnavailable,
    DeadlineExceeded,
)


def problem_answer(problem: Problem, scope: Scope) -> Response:
    """The response that tells a client about a problem."""
    body = problem.body(path=scope["path"], request_id=scope.get("request_id", ""))
    return Response(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def problems(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can end in these problems, each with an example, beside those that every route can end in."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in dict.fromkeys((*kinds, *_EVERYWHERE)):
        answer = responses.setdefault(
            kind.status,
            {"description": kind.title, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}}},
        )
        answer["content"][MEDIA_TYPE]["examples"][kind.name] = {"summary": kind.title, "value": _example(kind)}
        answer["description"] = " or ".join(dict.fromkeys([*answer["description"].split(" or "), kind.title]))
    return responses


def problem_from(error: BaseException, scope: Scope) -> Problem:
    """What to tell a client about an error of whatever kind in a request; `InternalError` for a fault of ours."""
    match error:
        case Problem():
            return error
        case HTTPException(status_code=404):
            return NotFound("There is nothing at this address.")
        case HTTPException(status_code=405):
            return MethodNotAllowed(f"{scope['method'][:16]} is not possible here.", headers={"Allow": ", ".join(_methods_here(scope))})
        case HTTPException():
            return BadRequest("The request could not be read.")
        case RequestValidationError():
            return _from_invalid_values(error)
        case asyncio.CancelledError():
            # The server does so when it ends and has waited for `APP_SHUTDOWN_SECONDS`.
            return Overloaded(
                "This process is stopping and could not wait for the request. Its changes were rolled back, unless it was about to answer."
            )
    return database_problem_from(error) or InternalError()


PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "Problem details (RFC 9457). `type` is the address of a page that says how to mend it.",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["in", "pointer", "detail"],
                "properties": {
                    "in": {"type": "string", "enum": ["body", "query", "path", "header"]},
                    "pointer": {"type": "string", "description": "A JSON pointer (RFC 6901) as a URI fragment."},
                    "detail": {"type": "string"},
                },
            },
        },
        "short": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["sku", "requested", "available"],
                "properties": {
                    "sku": {"type": "string"},
                    "location": {"type": "string"},
                    "requested": {"type": "integer"},
                    "available": {"type": "integer"},
                },
            },
        },
        "required_scope": {"type": "string"},
        "reservation_status": {"type": "string"},
        "skus": {"type": "array", "items": {"type": "string"}},
    },
}


_MOST_ERRORS = 100
# Headers whose absence or form has a problem of its own; FastAPI takes them for values like all others.
_MISSING_HEADER: dict[str, Problem] = {
    "If-Match": PreconditionRequired("Send the ETag of the version you read as `If-Match`."),
    "Idempotency-Key": BadRequest("Send an `Idempotency-Key`: your own name for this request, such as a UUID."),
}
_MALFORMED_HEADER: dict[str, Problem] = {
    "If-Match": BadRequest("If-Match is malformed; send the `ETag` as it was given, quotes included."),
    "Idempotency-Key": BadRequest("The Idempotency-Key is malformed; it has 1 to 255 visible ASCII characters."),
}


def _methods_here(scope: Scope) -> list[str]:
    # The exception names the methods of the first matching route only, and each of ours has one; RFC 9110 section 15.5.6 wants all.
    routes = [route for route in scope["app"].router.routes if route.matches(scope)[0] is not Match.NONE]
    return sorted({method for route in routes for method in getattr(route, "methods", None) or ()})


def _from_invalid_values(error: RequestValidationError) -> Problem:
    for part in error.errors():
        if part["loc"][0] == "header":
            table = _MISSING_HEADER if part["type"] == "missing" else _MALFORMED_HEADER
            if (problem := table.get(part["loc"][-1])) is not None:
                return problem
    count = len(error.errors())
    found = [{"in": part["loc"][0], "pointer": _pointer(part["loc"][1:]), "detail": part["msg"]} for part in error.errors()[:_MOST_ERRORS]]
    what = "1 value is" if count == 1 else f"{count} values are"
    where = "see `errors`" if count <= _MOST_ERRORS else f"`errors` names the first {_MOST_ERRORS}"
    return ValidationFailed(f"{what} not acceptable; {where}.", errors=found)


@router.get("/problems/{name}", include_in_schema=False)
async def get_problem(name: str) -> HTMLResponse:
    """The page about a problem type."""
    kind = PROBLEMS.get(name)
    if kind is None:
        raise NotFound("There is no such problem type.")
    meaning = escape(" ".join((kind.__doc__ or "").split()))
    return HTMLResponse(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(kind.title)}</title>"
        "<style>body{font:1rem/1.6 system-ui;max-width:42rem;margin:3rem auto;padding:0 1rem}code{background:#eee;padding:0 .25em}</style>"
        f"<h1>{escape(kind.title)}</h1><p>Status {kind.status} · <code>/problems/{kind.name}</code></p>"
        f"<h2>What it means</h2><p>{_code(meaning)}</p><h2>How to mend it</h2><p>{_code(escape(kind.how_to_mend))}</p>"
        f"<h2>Example</h2><p>{_code(escape(kind.example))}</p>"
    )


def _example(kind: type[Problem]) -> dict[str, Any]:
    return {
        "type": f"/problems/{kind.name}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.example,
        "instance": "/api/v1/products",
        "request_id": "8c5daeab110b42099435f792b6f83049",
        **kind.example_members,
    }


def _pointer(location: tuple[int | str, ...]) -> str:
    # Pydantic's mark for "the key itself".
    if location[-1:] == ("[key]",):
        location = location[:-1]
    return "#" + "".join("/" + quote(str(part).replace("~", "~0").replace("/", "~1"), safe="~") for part in location)


def _code(text: str) -> str:
    parts = text.split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
