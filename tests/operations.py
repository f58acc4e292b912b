"""Every operation as OpenAPI tells it, how it is meant to be called, and what every problem must look like: for tests that hold for all of them."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
from pwdlib.hashers.argon2 import Argon2Hasher
from starlette.types import ASGIApp, Message, Receive

from app.core.config import Settings
from app.core.problems import PROBLEMS, ValidationFailed
from app.core.process import Process
from app.core.security import scopes_of
from app.main import create_app
from app.models import Base
from app.services import users
from tests.shop import a_category, a_location, a_product, reserve, stock_of

PASSWORD = "correct horse battery staple"
Values = dict[str, str]

# A SKU may hold slashes; a user's address stands beside `/users/me`.
_PATH_PARAMETERS = {"sku": ".*", "user_id": "[0-9a-f-]{36}"}

DOCUMENT: dict[str, Any] = create_app(Settings(_env_file=None)).openapi()
_SCHEMAS = DOCUMENT["components"]["schemas"]
# Product, variant, location and the like are words of the API as well.
_TABLES = [table.name for table in Base.metadata.sorted_tables if "_" in table.name]
_OURS_ALONE = re.compile(
    r"Traceback|File \"|site-packages|\.py\b|psycopg|sqlalchemy|asyncpg|pydantic|SELECT |INSERT |UPDATE |DELETE FROM|violates|relation |_pkey|_check\b|"
    + "|".join(_TABLES)
)


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Attributes:
        scopes: what a token needs; None when no token is needed.
        parameters: by name, as OpenAPI has them.
        content_type: of the body, when there is one.
        schema: of the body, when there is one.
    """

    name: str
    method: str
    path: str
    scopes: tuple[str, ...] | None
    parameters: dict[str, dict[str, Any]]
    content_type: str | None
    schema: dict[str, Any] | None

    def address(self, values: Mapping[str, str]) -> str:
        """The path with its parameters filled in."""
        return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], self.path)

    def matches(self, path: str) -> bool:
        """Whether a path may mean this operation."""
        return re.fullmatch(re.sub(r"\{(\w+)\}", lambda match: _PATH_PARAMETERS.get(match[1], "[^/]+"), self.path), path) is not None


def _operations() -> dict[str, Operation]:
    found = {}
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            found[operation["operationId"]] = Operation(
                name=operation["operationId"],
                method=method.upper(),
                path=path,
                scopes=tuple(operation["security"][0]["login"]) if operation.get("security") else None,
                parameters={parameter["name"]: parameter for parameter in operation.get("parameters", ())},
                content_type=next(iter(content), None),
                schema=next((media["schema"] for media in content.values()), None),
            )
    return found


OPERATIONS = _operations()
"""By operationId."""

BODIES: dict[str, Callable[[Values], dict[str, Any]]] = {
    "create_product": lambda values: {
        "name": "Linen shirt", "slug": f"s-{uuid4()}", "description": "Light", "status": "active", "category_ids": [values["category_id"]], "tags": ["a"],
        "attributes": {"material": "linen"}, "media": [{"url": "https://shop.example/1", "alt": "Front"}],
        "variants": [{"sku": uuid4().hex, "gtin": "4006381333931", "options": {"Size": "M"}, "attributes": {"fit": "slim"},
                      "prices": [{"amount": 4900, "currency": "EUR"}]}],
    },
    # The same variant each time, or the product would gather hundreds of archived ones.
    "update_product": lambda values: (body := BODIES["create_product"](values)) | {"variants": [body["variants"][0] | {"sku": "C"}]},
    "create_category": lambda values: {"name": "Shirts", "slug": f"s-{uuid4()}", "parent_id": values["category_id"]},
    "update_category": lambda values: {"name": "Shirts", "slug": f"s-{uuid4()}", "parent_id": values["other_category_id"]},
    "create_location": lambda _: {"code": uuid4().hex, "name": "Berlin", "address": {"city": "Berlin"}, "active": True},
    "update_location": lambda _: {"name": "Berlin", "address": {"city": "Berlin"}, "active": True},
    "create_adjustment": lambda values: {
        "lines": [{"sku": values["sku"], "location": values["code"], "delta": 1}], "reason": "received", "reference": "delivery 7",
    },
    "create_reservation": lambda values: {
        "lines": [{"sku": values["sku"], "quantity": 1, "location": values["code"]}], "expires_in_seconds": 60, "reference": "order 7",
    },
    "extend_reservation": lambda _: {"expires_in_seconds": 60},
    "create_user": lambda _: {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "display_name": "Eva", "roles": ["viewer"]},
    "update_user": lambda _: {"display_name": "Eva", "roles": ["viewer"], "disabled": False},
    "change_password": lambda _: {"current_password": PASSWORD, "new_password": PASSWORD},
    "log_in": lambda values: {"grant_type": "password", "username": values["email"], "password": PASSWORD},
}  # fmt: skip
"""An acceptable body for each operation that reads one, with new names at every call, so that it can be accepted many times over."""


@cache
def _password_hash() -> str:
    # Made once, and cheap: what it is verified with is the service's.
    return Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


async def stocked(admin: httpx.AsyncClient, process: Process) -> Values:
    """One and another of everything there is, with what paths and bodies name. The client becomes somebody who exists."""
    emails = ("eva@example.com", "adam@example.com")
    async with process.database.write() as session:
        made = [
            await users.create(session, email=email, password_hash=_password_hash(), display_name="Eva", roles=["admin"])
            for email in emails
        ]
    user_ids = [user_id for user_id, _ in made]
    await a_product(admin, "A", "B")
    product = await a_product(admin, "C")
    category, other_category = await a_category(admin, "One"), await a_category(admin, "Another")
    for sku, code in (("A", "BER-1"), ("A", "HAM-1"), ("B", "BER-1")):
        await stock_of(admin, sku, 100, code)
    place = await a_location(admin, "LEJ-1")
    admin.headers["Authorization"] = f"Bearer {process.tokens.issue(user_ids[0], scopes_of(['admin']), 1)}"
    return {
        "product_id": product["id"],
        "category_id": category["id"],
        "other_category_id": other_category["id"],
        "location_id": place["id"],
        "reservation_id": (await reserve(admin, {"sku": "A", "quantity": 1, "location": "BER-1"})).json()["id"],
        "user_id": str(user_ids[1]),
        "email": emails[0],
        "sku": "A",
        "code": "BER-1",
    }


async def ask(
    client: httpx.AsyncClient, operation: Operation, values: Values, *, body: Any = None, query: str = "", **headers: str | bytes | None
) -> httpx.Response:
    """Call an operation as it is meant to be called, but for what is given.

    Args:
        body: sent as it is when it is bytes.
        headers: named with underscores; None leaves out one that would be sent.
    """
    sent: dict[str, str | bytes | None] = {"If-Match": "*", "Idempotency-Key": uuid4().hex, "Content-Type": operation.content_type}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    if body is None and operation.schema is not None:
        body = BODIES[operation.name](values)
    if body is not None and not isinstance(body, bytes):
        is_form = operation.content_type == "application/x-www-form-urlencoded"
        body = (urlencode(body, errors="surrogatepass") if is_form else json.dumps(body)).encode()
    raw = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in sent.items() if value is not None]
    return await client.request(operation.method, operation.address(values) + query, content=body, headers=raw)


async def send_raw(
    app: ASGIApp,
    operation: Operation,
    values: Values,
    headers: Mapping[str, str],
    *,
    receive: Receive,
    query: bytes = b"",
) -> httpx.Response:
    """Call an operation as only a server can: with any bytes in the query, and a body that comes as `receive` gives it."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    sent = {"If-Match": "*", "Idempotency-Key": uuid4().hex, "Content-Type": operation.content_type or "", **headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    path = operation.address(values)
    await app(
        {"type": "http", "method": operation.method, "path": path, "query_string": query, "headers": raw, "http_version": "1.1"},
        receive,
        send,
    )
    content = b"".join(message["body"] for message in messages[1:])
    return httpx.Response(messages[0]["status"], headers=messages[0]["headers"], content=content)


def properties(schema: Mapping[str, Any], pointer: str = "") -> set[str]:
    """Pointers to all that a body may hold; `*` stands for the items of a list and for any key of an object of free form."""
    if schema.get("$ref") == "#/components/schemas/JsonValue":
        return set()
    if "$ref" in schema:
        schema = _SCHEMAS[schema["$ref"].rpartition("/")[2]]
    found: set[str] = set()
    for choice in schema.get("anyOf", ()):
        found |= properties(choice, pointer)
    for name, inner in schema.get("properties", {}).items():
        found |= {f"{pointer}/{name}"} | properties(inner, f"{pointer}/{name}")
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(inner, dict):
            found |= {f"{pointer}/*"} | properties(inner, f"{pointer}/*")
    return found


def problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """The problem in an answer, after checking what every problem has."""
    body = any_problem(answer)
    assert (body["status"], body["type"]) == (status, f"/problems/{name}")
    return body


def any_problem(answer: httpx.Response) -> dict[str, Any]:
    """The problem in an answer, whichever it is: complete, consistent, and without a word of what is only ours to know."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    body: dict[str, Any] = answer.json()
    kind = PROBLEMS[body["type"].removeprefix("/problems/")]
    assert (answer.status_code, body["status"], body["title"]) == (kind.status, kind.status, kind.title)
    assert body["detail"]
    assert body["request_id"] == answer.headers["X-Request-ID"]
    # What the database alone refuses comes without: the DTOs are to refuse it first.
    assert kind is not ValidationFailed or body["errors"], answer.text
    leaked = _OURS_ALONE.search(answer.text)
    assert leaked is None, f"{leaked[0]} in {answer.text}"
    return body
