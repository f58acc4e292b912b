"""Hostile input for every operation. What is tried is derived from OpenAPI, so a new operation is tested too, or asks for an example of its body."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.core.config import Settings
from app.core.process import Process
from app.core.security import SCOPES
from tests.operations import BODIES, OPERATIONS, Operation, Values, any_problem, ask, problem, properties, send_raw, stocked
from tests.shop import stock_of

GUARDED = [operation for operation in OPERATIONS.values() if operation.scopes is not None]
WITH_BODY = [operation for operation in OPERATIONS.values() if operation.schema is not None]
LISTS = [operation for operation in OPERATIONS.values() if "cursor" in operation.parameters]
# What paths and bodies name, where it does not come to that.
NOTHING = dict.fromkeys(
    ("product_id", "category_id", "other_category_id", "location_id", "reservation_id", "email", "sku", "code"), "x"
) | {"user_id": str(UUID(int=0))}

TEXTS = [
    "", " ", "\x00", "a\x00b", "\ud800", "\udc00b", "\ufffe\uffff", "\u202egnp.exe", "e\u0301" * 40, "\U0001f9e5", "\r\nSet-Cookie: a=b", "%s%n{0}{{7*7}}",
    "' OR 1=1; --", "../../../etc/passwd", "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "null", "-1", "1e9", "1_0", "\u0661", "infinity", "nan",
    "01890a5d-ac96-774b-bcce-b302099a8057", "{01890A5DAC96774BBCCEB302099A8057}", "0-1890a5dac96774bbcceb302099a8057", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59", "1" * 400, "x" * 60_000,
]  # fmt: skip
NUMBERS = [
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "1" + "0" * 30, "1" + "0" * 4000, "1e30", "1e400", "-1e400",
    "NaN", "Infinity", "0", "-0", "-1", "1.5", "1e-400",
]  # fmt: skip
OTHERS = ["null", "true", "[]", "{}", "[[]]", '[null, "\\u0000"]', '{"a": {"\\u0000": 1}}', "[" * 200 + "]" * 200]
GARBAGE = [
    "Bearer", "Bearer ", "Bearer x", "Bearer x.y.z", "Bearer ..", "Bearer null", "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer \xff", "Basic YTpi", "\x00",
    "Bearer " + "x" * 60_000, "Bearer a, Bearer b",
]  # fmt: skip
MALFORMED_KEYS: list[str | bytes] = ["", " ", "a b", "x" * 256, "x" * 60_000, "\u00e4", "\t", b"\xff", b"a\x00"]
MALFORMED_TAGS: list[str | bytes] = ["", "1", '"1', '"1" "2"', "'1'", "W/1", '*, "1"', '"\u00e4"', b'"\xff"', '"1"' * 100, "x" * 60_000]


@pytest.fixture
async def values(admin: httpx.AsyncClient, process: Process) -> Values:
    return await stocked(admin, process)


def each(operations: list[Operation]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operation", operations, ids=[operation.name for operation in operations])


def places(body: Any, pointer: str = "") -> Iterator[str]:
    """Pointers to all that is in a body."""
    for key, inner in body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ():
        yield f"{pointer}/{key}"
        yield from places(inner, f"{pointer}/{key}")


def with_token(body: Any, pointer: str, token: str) -> bytes:
    """The body as JSON, with a token as it is in one place."""
    body = deepcopy(body)
    *path, last = pointer.split("/")[1:]
    inner = body
    for key in path:
        inner = inner[int(key) if isinstance(inner, list) else key]
    inner[int(last) if isinstance(inner, list) else last] = "@here@"
    return json.dumps(body).replace('"@here@"', token).encode()


async def read_everything(client: httpx.AsyncClient, values: Values) -> None:
    """Whatever was accepted, every list can still be read to its end."""
    for operation in LISTS:
        query = "?limit=100"
        while query:
            answer = await ask(client, operation, values, query=query)
            assert answer.status_code == 200, answer.text
            query = f"?limit=100&cursor={cursor}" if (cursor := answer.json()["next_cursor"]) else ""


class TestExamples:
    """What the other tests change one thing of."""

    def test_every_field_of_every_body_is_in_its_example(self) -> None:
        for operation in WITH_BODY:
            assert operation.schema is not None
            tried = {
                "/".join("*" if part.isdigit() else part for part in pointer.split("/"))
                for pointer in places(BODIES[operation.name](NOTHING))
            }
            missing = properties(operation.schema) - tried
            assert {pointer for pointer in missing if not pointer.endswith(("attributes/*", "address/*"))} == set(), operation.name

    @each(list(OPERATIONS.values()))
    async def test_with_exactly_the_scopes_it_declares_an_operation_succeeds(
        self, admin: httpx.AsyncClient, values: Values, process: Process, operation: Operation
    ) -> None:
        principal = process.tokens.verify(admin.headers["Authorization"].removeprefix("Bearer "))
        path_values = values | {"user_id": str(principal.user_id)}
        token = process.tokens.issue(principal.user_id, operation.scopes or (), 1)
        answer = await ask(admin, operation, path_values, Authorization=f"Bearer {token}")
        assert answer.is_success, answer.text


class TestWhoAsks:
    async def test_without_a_valid_token_it_is_401_with_the_scheme_to_use(self, client: httpx.AsyncClient) -> None:
        for operation in GUARDED:
            for authorization in (None, *GARBAGE):
                answer = await ask(client, operation, NOTHING, Authorization=authorization)
                problem(answer, 401, "not-authenticated")
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    async def test_with_every_scope_but_one_that_it_needs_it_is_403_and_names_that_one(
        self, client: httpx.AsyncClient, process: Process
    ) -> None:
        for operation in GUARDED:
            for scope in operation.scopes or ():
                token = process.tokens.issue(uuid4(), SCOPES.keys() - {scope}, 1)
                answer = await ask(client, operation, NOTHING, Authorization=f"Bearer {token}")
                assert problem(answer, 403, "missing-scope")["required_scope"] == scope


class TestAddresses:
    async def test_a_method_that_is_not_there_is_405_and_allow_names_all_that_are(self, admin: httpx.AsyncClient) -> None:
        for path in {operation.address(NOTHING) for operation in OPERATIONS.values()}:
            allowed = {operation.method for operation in OPERATIONS.values() if operation.matches(path)}
            for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "X" * 5000} - allowed:
                answer = await admin.request(method, path)
                problem(answer, 405, "method-not-allowed")
                assert set(answer.headers["Allow"].split(", ")) == allowed

    async def test_an_unknown_id_is_404_and_a_malformed_one_422(self, admin: httpx.AsyncClient, values: Values) -> None:
        for operation in OPERATIONS.values():
            for name in [name for name, parameter in operation.parameters.items() if parameter["in"] == "path"]:
                problem(await ask(admin, operation, values | {name: str(uuid4())}), 404, "not-found")
                if name == "user_id":
                    # Beside `/users/me`: what is no id is no user's address.
                    problem(await ask(admin, operation, values | {name: "%00"}), 404, "not-found")
                    continue
                (error,) = problem(await ask(admin, operation, values | {name: "%00"}), 422, "validation-error")["errors"]
                assert (error["in"], error["pointer"]) == ("path", f"#/{name}")


class TestHeaders:
    async def test_if_match_is_refused_when_it_is_malformed_or_stale_or_missing_where_it_is_needed(
        self, admin: httpx.AsyncClient, values: Values
    ) -> None:
        for operation in [operation for operation in OPERATIONS.values() if "If-Match" in operation.parameters]:
            for malformed in MALFORMED_TAGS:
                problem(await ask(admin, operation, values, If_Match=malformed), 400, "bad-request")
            for stale in ('"7"', 'W/"1"', '"1.0"', '"0", "99999999999999999999"'):
                problem(await ask(admin, operation, values, If_Match=stale), 412, "precondition-failed")
            if operation.parameters["If-Match"]["required"]:
                problem(await ask(admin, operation, values, If_Match=None), 428, "precondition-required")

    async def test_an_idempotency_key_is_refused_when_it_is_malformed_or_missing_where_it_is_needed(
        self, admin: httpx.AsyncClient, values: Values
    ) -> None:
        for operation in [operation for operation in OPERATIONS.values() if "Idempotency-Key" in operation.parameters]:
            required = operation.parameters["Idempotency-Key"]["required"]
            for malformed in [*MALFORMED_KEYS, None] if required else MALFORMED_KEYS:
                answer = await ask(admin, operation, values, Idempotency_Key=malformed)
                assert "Idempotency-Key" in problem(answer, 400, "bad-request")["detail"]

    async def test_a_request_id_is_returned_when_it_is_well_formed_and_else_replaced(self, client: httpx.AsyncClient) -> None:
        for operation in OPERATIONS.values():
            answer = await ask(client, operation, NOTHING, X_Request_ID="find-me-in-the-log")
            assert answer.headers.get_list("X-Request-ID") == ["find-me-in-the-log"]
            for malformed in ("", "short", "x" * 129, "a b c d e f", b"\xff" * 20, b"12345678\x00", "<script>alert(1)</script>"):
                (made,) = (await ask(client, operation, NOTHING, X_Request_ID=malformed)).headers.get_list("X-Request-ID")
                assert made.isalnum()
                assert len(made) == 32


class TestBodies:
    async def test_one_over_the_limit_is_refused_while_it_is_read_also_without_a_length(
        self, app: FastAPI, admin: httpx.AsyncClient, values: Values, settings: Settings
    ) -> None:
        part, given = b"a" * 65_536, 0

        async def receive() -> Message:
            nonlocal given
            given += len(part)
            return {"type": "http.request", "body": part, "more_body": given < 10 * settings.max_body_bytes}

        for operation in WITH_BODY:
            given = 0
            answer = await send_raw(app, operation, values, admin.headers, receive=receive)
            problem(answer, 413, "payload-too-large")
            assert answer.headers["Connection"] == "close"
            assert given <= settings.max_body_bytes + len(part)

    async def test_one_of_another_content_type_is_415(self, admin: httpx.AsyncClient, values: Values) -> None:
        others = {
            "application/json",
            "application/x-www-form-urlencoded",
            "text/plain",
            "multipart/form-data",
            "application/jsonx",
            "",
            None,
        }
        for operation in WITH_BODY:
            for content_type in others - {operation.content_type}:
                problem(await ask(admin, operation, values, Content_Type=content_type), 415, "unsupported-media-type")


class TestValues:
    @each([operation for operation in WITH_BODY if operation.content_type == "application/json"])
    async def test_anything_in_any_place_of_a_body_is_stored_or_refused(
        self, admin: httpx.AsyncClient, values: Values, operation: Operation
    ) -> None:
        for pointer in places(BODIES[operation.name](values)):
            for token in [*map(json.dumps, TEXTS), *NUMBERS, *OTHERS]:
                answer = await ask(admin, operation, values, body=with_token(BODIES[operation.name](values), pointer, token))
                assert answer.is_success or any_problem(answer)["status"] in (400, 404, 409, 422, 429), (pointer, token[:80], answer.text)
        await read_everything(admin, values)

    async def test_anything_in_any_place_of_a_form_is_refused(self, client: httpx.AsyncClient, values: Values) -> None:
        log_in = OPERATIONS["log_in"]
        for name in BODIES["log_in"](values):
            for text in TEXTS:
                any_problem(await ask(client, log_in, values, body=BODIES["log_in"](values) | {name: text}))
        for raw in (
            b"",
            b"&&&",
            b"=",
            b"%",
            b"%zz=%zz",
            b"username",
            b"\xff=\xff",
            b"username=a&username=b",
            b"username[]=a&password[]=b",
            b"a=b&" * 5000,
        ):
            any_problem(await ask(client, log_in, values, body=raw))

    @each([operation for operation in OPERATIONS.values() if operation.parameters and operation.method == "GET"])
    async def test_anything_in_any_parameter_finds_something_or_is_refused(
        self, admin: httpx.AsyncClient, values: Values, operation: Operation
    ) -> None:
        for name, parameter in operation.parameters.items():
            for text in [*TEXTS, *NUMBERS]:
                encoded = quote(text[:5000], safe="", errors="surrogatepass")
                queries = [f"?{name}={encoded}", f"?{name}={encoded}&{name}={encoded}", f"?{name}[]={encoded}&{encoded}=1"]
                for query in [""] if parameter["in"] == "path" else queries:
                    answer = await ask(admin, operation, values | {name: encoded}, query=query)
                    assert answer.is_success or any_problem(answer)["status"] in (400, 404, 422), (name, text[:80])

    async def test_any_bytes_may_be_in_the_query_and_in_host(self, app: FastAPI, admin: httpx.AsyncClient, values: Values) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        # Last the one that ends its own token.
        for operation in sorted(GUARDED, key=lambda operation: operation.name == "change_password"):
            for query in (b"\xff=\xff", b"a=b&" * 2000, b"%", b"&&==&", b"cursor=&limit=", b"\x00", b"[]"):
                body = json.dumps(BODIES[operation.name](values)).encode() if operation.schema else b""
                answer = await send_raw(app, operation, values, {**admin.headers, "host": "["}, query=query, receive=receive)
                assert answer.is_success or any_problem(answer)["status"] in (401, 404, 409, 422), (operation.name, query)

    @pytest.mark.parametrize(
        ("name", "pointer", "kept", "refused"),
        [
            ("create_product", "/variants/0/prices/0/amount", ["0", "1000000000000"], ["-1", "1000000000001"]),
            ("create_adjustment", "/lines/0/delta", ["1000000000", "-1000000000"], ["1000000001", "-1000000001", "0"]),
            ("create_reservation", "/lines/0/quantity", ["1", "1000000000"], ["0", "1000000001"]),
            ("create_reservation", "/expires_in_seconds", ["1", "604800"], ["0", "604801"]),
            ("extend_reservation", "/expires_in_seconds", ["1", "604800"], ["0", "604801"]),
        ],
    )
    async def test_numbers_at_their_limits_are_taken_and_one_beyond_is_refused(
        self, admin: httpx.AsyncClient, values: Values, name: str, pointer: str, kept: list[str], refused: list[str]
    ) -> None:
        await stock_of(admin, "A", 10**9)
        for token in kept:
            answer = await ask(admin, OPERATIONS[name], values, body=with_token(BODIES[name](values), pointer, token))
            assert answer.is_success, answer.text
        for token in refused:
            answer = await ask(admin, OPERATIONS[name], values, body=with_token(BODIES[name](values), pointer, token))
            assert [error["pointer"] for error in problem(answer, 422, "validation-error")["errors"]] == [f"#{pointer}"]

    @pytest.mark.parametrize("name", ["create_product", "create_category", "create_location"])
    async def test_what_a_spreadsheet_or_a_page_would_run_stays_the_text_it_is(
        self, admin: httpx.AsyncClient, values: Values, name: str
    ) -> None:
        for text in ("=cmd|' /C calc'!A0", "@SUM(1+1)", "+1", "-1", "<script>alert(1)</script>", "\u202egnp.exe", "{{7*7}}", "'; --"):
            answer = await ask(admin, OPERATIONS[name], values, body=BODIES[name](values) | {"name": text})
            assert (answer.json()["name"], answer.headers["Content-Type"]) == (text, "application/json")
            assert (await admin.get(answer.headers["Location"])).json()["name"] == text


class TestCursors:
    @pytest.fixture
    async def cursors(self, admin: httpx.AsyncClient, values: Values) -> dict[str, str]:
        """One of each list."""
        answers = {operation.name: await ask(admin, operation, values, query="?limit=1") for operation in LISTS}
        return {name: answer.json()["next_cursor"] for name, answer in answers.items()}

    @each(LISTS)
    async def test_one_of_another_list_or_with_anything_in_it_is_400_and_a_damaged_one_never_a_fault(
        self, admin: httpx.AsyncClient, values: Values, cursors: dict[str, str], operation: Operation
    ) -> None:
        own = cursors.pop(operation.name)
        assert (await ask(admin, operation, values, query=f"?limit=1&cursor={own}")).is_success
        for other in [*cursors.values(), own[:-4], own[4:], own * 2, "x", "W10", "bnVsbA", "WzFd", "WyIiXQ", "%00", "%ED%A0%80", "=" * 8]:
            problem(await ask(admin, operation, values, query=f"?cursor={other}"), 400, "bad-request")
        problem(await ask(admin, operation, values, query=f"?cursor={own * 20}"), 422, "validation-error")
        for position in range(len(own)):
            for bit in range(7):
                damaged = quote(own[:position] + chr(ord(own[position]) ^ 1 << bit) + own[position + 1 :])
                answer = await ask(admin, operation, values, query=f"?cursor={damaged}")
                assert answer.is_success or any_problem(answer)["status"] in (400, 422)
