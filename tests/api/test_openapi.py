"""The OpenAPI document: what a reader, a generated client and the docs page rely on."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from app.api.errors import PROBLEM_SCHEMA
from app.core.config import Settings
from app.core.problems import PROBLEMS
from app.core.security import SCOPES
from app.main import create_app

DOCUMENT: dict[str, Any] = create_app(Settings(_env_file=None)).openapi()
OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": operation for path, operations in DOCUMENT["paths"].items() for method, operation in operations.items()
}
OUTSIDE_THE_API = {"GET /livez", "GET /healthz", "GET /metrics", "GET /.well-known/jwks.json"}
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
EVERY_OPERATION_OF_THE_API = pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - OUTSIDE_THE_API))


def statuses_to_expect(operation: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """What an operation can end in, by what it takes."""
    yield from [(500, "internal-error"), (503, "overloaded"), (503, "database-unavailable"), (504, "deadline-exceeded")]
    parameters = {parameter["name"]: parameter for parameter in operation.get("parameters", ())}
    if operation.get("security"):
        yield 401, "not-authenticated"
        if operation["security"][0]["login"]:
            yield 403, "missing-scope"
    if "requestBody" in operation:
        yield from [
            (400, "bad-request"),
            (408, "request-timeout"),
            (413, "payload-too-large"),
            (415, "unsupported-media-type"),
            (422, "validation-error"),
        ]
    if parameters:
        yield 422, "validation-error"
    if any(parameter["in"] == "path" for parameter in parameters.values()):
        yield 404, "not-found"
    if parameters.keys() & {"cursor", "If-Match", "Idempotency-Key"}:
        yield 400, "bad-request"
    if "If-Match" in parameters:
        yield 412, "precondition-failed"
        if parameters["If-Match"]["required"]:
            yield 428, "precondition-required"
    if "Idempotency-Key" in parameters:
        yield from [(409, "idempotency-in-progress"), (413, "payload-too-large"), (422, "idempotency-key-reused")]


def test_the_document_is_valid_openapi_3_1() -> None:
    # Formats aside: the token's URL is relative, which OpenAPI allows (section 4.6) and its schema does not.
    jsonschema_rs.Draft202012Validator(OPENAPI_31, validate_formats=False).validate(DOCUMENT)


async def test_the_document_is_served(client: httpx.AsyncClient) -> None:
    answer = await client.get("/openapi.json")
    assert answer.json() == DOCUMENT
    assert answer.json()["openapi"].startswith("3.1")


def test_it_works_wherever_the_service_stands() -> None:
    assert all(server["url"].startswith("/") for server in DOCUMENT.get("servers", ()))
    assert "localhost" not in str(DOCUMENT)


@EVERY_OPERATION
def test_an_operation_has_a_name_for_clients_and_words_for_readers(operation: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation["operationId"])
    assert operation["summary"]
    assert len(operation["summary"]) < 60
    assert operation["tags"]
    assert all(
        parameter["description"]
        for parameter in operation.get("parameters", ())
        if parameter["in"] in ("query", "header") and parameter["name"] != "limit"
    )


def test_no_two_operations_have_the_same_name() -> None:
    assert len({operation["operationId"] for operation in OPERATIONS.values()}) == len(OPERATIONS)


@EVERY_OPERATION_OF_THE_API
def test_every_problem_an_operation_can_end_in_is_declared(name: str) -> None:
    responses = OPERATIONS[name]["responses"]
    for status, problem in statuses_to_expect(OPERATIONS[name]):
        assert problem in responses[str(status)]["content"]["application/problem+json"]["examples"], (status, problem)


@EVERY_OPERATION
def test_every_declared_problem_has_an_example_that_is_one(operation: dict[str, Any]) -> None:
    validator = jsonschema_rs.Draft202012Validator(PROBLEM_SCHEMA)
    for status, response in operation["responses"].items():
        if int(status) < 400 or operation["operationId"] == "get_readiness":
            continue
        assert response["description"]
        content = response["content"]["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        for problem, example in content["examples"].items():
            validator.validate(example["value"])
            assert (example["value"]["type"], example["value"]["status"]) == (f"/problems/{problem}", int(status))
            assert PROBLEMS[problem].status == int(status)


@EVERY_OPERATION_OF_THE_API
def test_the_scopes_an_operation_needs_are_shown(name: str) -> None:
    if name == "POST /api/v1/auth/login":
        assert "security" not in OPERATIONS[name]
        return
    ((scheme, scopes),) = OPERATIONS[name]["security"][0].items()
    assert scheme == "login"
    assert set(scopes) <= SCOPES.keys()
    # Everybody may see and change themselves.
    assert scopes or "/users/" in name


def test_all_scopes_are_explained_and_used() -> None:
    flow = DOCUMENT["components"]["securitySchemes"]["login"]["flows"]["password"]
    assert flow["scopes"] == SCOPES
    assert flow["tokenUrl"] == "/api/v1/auth/login"
    used = {scope for operation in OPERATIONS.values() for requirement in operation.get("security", ()) for scope in requirement["login"]}
    assert used == SCOPES.keys()


def test_nothing_is_declared_that_is_never_answered() -> None:
    assert not {"HTTPValidationError", "ValidationError"} & DOCUMENT["components"]["schemas"].keys()
    assert "HTTPValidationError" not in str(DOCUMENT)


def test_every_answer_with_a_body_says_what_is_in_it() -> None:
    for name in OPERATIONS.keys() - OUTSIDE_THE_API:
        for status, response in OPERATIONS[name]["responses"].items():
            if status in ("200", "201"):
                assert response["content"]["application/json"]["schema"], name
            elif status == "204":
                assert "content" not in response, name
    assert OPERATIONS["GET /metrics"]["responses"]["200"]["content"].keys() == {"text/plain"}


async def test_the_docs_page_finds_the_document_and_can_log_in(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "/openapi.json" in page.text
    assert (await client.get("/docs/oauth2-redirect")).status_code == 200
    assert (await client.post(DOCUMENT["components"]["securitySchemes"]["login"]["flows"]["password"]["tokenUrl"])).status_code == 415


@pytest.mark.parametrize("action", ["commit", "release"])
async def test_where_no_body_is_declared_its_type_does_not_matter_but_its_size_does(admin: httpx.AsyncClient, action: str) -> None:
    path = "/api/v1/reservations/01890a5d-ac96-774b-bcce-b302099a8057/" + action
    assert (await admin.post(path, content=b"x", headers={"Content-Type": "text/plain"})).status_code == 404
    assert (await admin.post(path, content=b"x" * 2_000_000)).status_code == 413
