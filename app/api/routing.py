"""How routes read bodies: strictly, with a limit, and with errors that say what is wrong."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from inspect import iscoroutinefunction
from math import isfinite
from operator import attrgetter
from typing import Any, NoReturn, get_origin

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form
from fastapi.routing import APIRoute
from fastapi.security import SecurityScopes
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.core.pool import current_route
from app.core.problems import BadRequest, DeadlineExceeded, NotFound, PayloadTooLarge, UnsupportedMediaType
from app.core.process import Process

# What is parsed and checked in one go, while nothing else is served: 80 ms at the very worst. A product of 256 KiB full of prices has 20,000 values.
_MOST_VALUES = 30_000
_MOST_KEYS = 1_000
# Any text, also one that does not end: each is looked at once.
_TEXTS = re.compile(rb'"(?:[^"\\]|\\.?)*+"?', re.DOTALL)
_FORM = "application/x-www-form-urlencoded"


class LimitedRequest(Request):
    """A request whose body is refused while it is read when it is too large."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body's parts as they arrive.

        Raises:
            PayloadTooLarge: as soon as the declared or the received size passes `APP_MAX_BODY_BYTES`.
            Problem: what the server tells about a body that does not come, or not as HTTP has it (`app/core/protocol.py`).
        """
        limit = self.app.state.process.settings.max_body_bytes
        declared = self.headers.get("content-length", "0")
        received = int(declared) if declared.isdigit() and len(declared) < 20 else 0
        if received <= limit:
            received = 0
            async for part in super().stream():
                received += len(part)
                if received > limit:
                    break
                yield part
        if received > limit:
            # What is left of the body is not read: the connection cannot be used again.
            raise PayloadTooLarge(f"The body is larger than {limit} bytes.", headers={"Connection": "close"})


class StrictRequest(LimitedRequest):
    """A request whose body is parsed without guessing."""

    async def body(self) -> bytes:
        """The whole body, which must be declared as JSON unless it is empty."""
        body = await super().body()
        content_type = self._content_type()
        if body and content_type != "application/json" and not (content_type.startswith("application/") and content_type.endswith("+json")):
            raise UnsupportedMediaType(f"The content type `{content_type[:80] or 'none'}` is not read here; send application/json.")
        return body

    async def json(self) -> Any:
        """The body as JSON (RFC 8259): UTF-8, unique keys, finite numbers, and nothing nested beyond reason."""
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body())
        return self._json

    async def form(self, **limits: Any) -> FormData:  # type: ignore[override] # a context manager there
        """The body as a form, which must be declared as one."""
        if (content_type := self._content_type()) != _FORM:
            raise UnsupportedMediaType(f"The content type `{content_type[:80] or 'none'}` is not read here; send {_FORM}.")
        return await super().form(**limits)

    def _content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class StrictRoute(APIRoute):
    """A route that is declared as FastAPI's are, and served with less. Where no body is expected, what it holds does not matter, only that it is not too large.

    FastAPI resolves dependencies anew at each request, with a cache, overrides, threads, and two stacks of things to close; that is a quarter of what a read
    costs (docs/decisions/0006). Here what the signature asks for is laid out once, as calls of coroutine functions, and a request walks through them. The
    transaction that a route writes in is committed after its function and before its response is sent.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._endpoint = _Call.of(self.dependant)
        self._query = dict(self._endpoint.query())
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("\n"):
            # The `$` of Starlette's patterns matches before a last newline as well.
            raise NotFound("There is nothing at this address.")
        current_route.set(self.path_format)
        values = await self._arguments(StrictRequest(scope, receive) if self.body_field else LimitedRequest(scope, receive))
        process: Process = scope["app"].state.process
        with process.admission:
            response = await self._respond(values, scope, process.settings.request_timeout_seconds)
        await response(scope, receive, send)

    async def _arguments(self, request: LimitedRequest) -> dict[str, Any]:
        errors: list[Any] = []
        values = await self._endpoint.arguments(request, errors)
        if request.scope["query_string"]:
            errors += self._unexpected(request)
        if self.body_field is not None:
            body, wrong = self.body_field.validate(await self._read_body(request), {}, loc=("body",))
            errors += wrong
            values[self.body_field.name] = body
        if errors:
            raise RequestValidationError(errors)
        return values

    def _unexpected(self, request: LimitedRequest) -> Iterator[dict[str, Any]]:
        """What the query holds too much: a filter that is misspelt, or given twice, would else be passed over without a word."""
        seen: set[str] = set()
        for name, _ in request.query_params.multi_items():
            if name not in self._query:
                yield {"type": "extra_forbidden", "loc": ("query", name), "msg": "There is no such parameter"}
            elif name in seen and not self._query[name]:
                yield {"type": "repeated", "loc": ("query", name), "msg": "This parameter may be given once"}
            seen.add(name)

    async def _respond(self, values: dict[str, Any], scope: Scope, timeout_seconds: float) -> Response:
        deadline = asyncio.timeout(timeout_seconds)
        try:
            async with deadline:
                response: Response = await self.endpoint(**values)
            # Not within the deadline: of a COMMIT that is cut off nobody knows whether it happened. PostgreSQL has a limit of its own for it.
            if (session := scope.get("write_session")) is not None:
                await session.commit()
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineExceeded(f"The request took longer than {timeout_seconds:g} seconds.") from None
        finally:
            if (session := scope.get("write_session")) is not None:
                await session.rollback()
        return response

    async def _read_body(self, request: LimitedRequest) -> Any:
        if self.body_field is not None and isinstance(self.body_field.field_info, Form):
            form = await request.form()
            fields: dict[str, Any] = getattr(self.body_field.field_info.annotation, "model_fields", {})
            if any(len(form.getlist(name)) > 1 for name in fields):
                raise BadRequest("The form holds the same field twice (RFC 6749 section 3.2).")
            return dict(form)
        return await request.json() if await request.body() else None


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A value that a function takes from the path, the query or a header."""

    name: str
    location: tuple[str, str]
    repeats: bool
    field: Any

    @classmethod
    def of(cls, field: Any, place: str) -> "_Parameter":
        """Lay out what FastAPI found about a parameter."""
        alias = field.validation_alias or field.alias
        return cls(field.name, (place, alias), get_origin(field.field_info.annotation) is list, field)

    def value(self, given: Any, errors: list[Any]) -> Any:
        """Its value, or its default; what is wrong with it is added to `errors`."""
        alias = self.location[1]
        if alias in given:
            value, wrong = self.field.validate(given.getlist(alias) if self.repeats else given[alias], loc=self.location)
            errors += wrong
            return value
        if self.field.field_info.is_required():
            errors.append({"type": "missing", "loc": self.location, "msg": "Field required"})
        return self.field.get_default()


@dataclass(frozen=True, slots=True)
class _Call:
    """One function of a route's signature, and where its arguments come from."""

    function: Callable[..., Awaitable[Any]]
    name: str | None
    needs: "tuple[_Call, ...]"
    parameters: tuple[tuple[Callable[[Request], Any], tuple[_Parameter, ...]], ...]
    request_name: str | None
    constants: dict[str, Any]

    @classmethod
    def of(cls, dependant: Dependant) -> "_Call":
        """Lay out what FastAPI found in a signature.

        Raises:
            TypeError: it asks for what is not served here, which would else be missing without a word.
        """
        call = dependant.call
        if call is None or not (iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)):
            raise TypeError(f"{call} is not a coroutine function: there are no threads here")
        if dependant.cookie_params or dependant.response_param_name or dependant.background_tasks_param_name:
            raise TypeError(f"{call} asks for more than path, query, headers, a body, the request and dependencies")
        scopes = [*(dependant.parent_oauth_scopes or ()), *(dependant.own_oauth_scopes or ())]
        sources = {
            "path": (attrgetter("path_params"), dependant.path_params),
            "query": (attrgetter("query_params"), dependant.query_params),
            "header": (attrgetter("headers"), dependant.header_params),
        }
        return cls(
            function=call,
            name=dependant.name,
            needs=tuple(cls.of(needed) for needed in dependant.dependencies),
            parameters=tuple(
                (read, tuple(_Parameter.of(field, place) for field in fields)) for place, (read, fields) in sources.items() if fields
            ),
            request_name=dependant.request_param_name,
            constants={dependant.security_scopes_param_name: SecurityScopes(scopes)} if dependant.security_scopes_param_name else {},
        )

    def query(self) -> Iterator[tuple[str, bool]]:
        """The parameters that it and what it needs take from the query, and whether they may repeat."""
        for needed in self.needs:
            yield from needed.query()
        for _, parameters in self.parameters:
            yield from ((parameter.location[1], parameter.repeats) for parameter in parameters if parameter.location[0] == "query")

    async def arguments(self, request: Request, errors: list[Any]) -> dict[str, Any]:
        """The function's arguments for a request; what is wrong with it is added to `errors`, and what needs it is not called."""
        values = dict(self.constants)
        for needed in self.needs:
            given = await needed.arguments(request, errors)
            if not errors:
                result = await needed.function(**given)
                if needed.name is not None:
                    values[needed.name] = result
        for read, parameters in self.parameters:
            source = read(request)
            for parameter in parameters:
                values[parameter.name] = parameter.value(source, errors)
        if self.request_name is not None:
            values[self.request_name] = request
        return values


def resource(name: str) -> APIRouter:
    """A router for `/api/v1/<name>`."""
    return APIRouter(prefix=f"/api/v1/{name}", tags=[name], route_class=StrictRoute)


def parse_json(body: bytes) -> Any:
    """A JSON text as Python values.

    Raises:
        BadRequest: not JSON, not UTF-8, a repeated key, a number that is not finite or absurdly long, nested too deep, or of more values than
            any body of ours has.
    """
    if _count_values(body) > _MOST_VALUES and _count_values(_TEXTS.sub(b"", body)) > _MOST_VALUES:
        raise BadRequest(f"The body holds more than {_MOST_VALUES} values.")
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite)
    except UnicodeDecodeError:
        raise BadRequest("The body is not valid UTF-8.") from None
    except RecursionError:
        raise BadRequest("The body is nested too deep.") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error.msg} at line {error.lineno} column {error.colno}.") from None
    except ValueError:
        # Python refuses to convert numbers of thousands of digits.
        raise BadRequest("The body holds a number with too many digits.") from None


def _count_values(body: bytes) -> int:
    # Before each value is a comma or the bracket that it is the first in. What is empty counts twice, and punctuation in texts is taken for such.
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > _MOST_KEYS:
        raise BadRequest(f"The body holds an object with more than {_MOST_KEYS} keys.")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest("The body holds an object with the same key twice.")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise BadRequest(f"The body is not valid JSON: {text} is not a JSON number.")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise BadRequest("The body holds a number that is too large.")
    return number
