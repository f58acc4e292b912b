"""The OpenAPI document: what a reader, a generated client and the docs page rely on."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

from app.api.errors import PROBLEM_SCHEMA
from app.core.config import Settings
from app.core.problems import PROBLEMS
from app.core.security import SCOPES
from app.main import create_app, openapi_page

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
    # `/users/me` is beside the ids of users: what is none is not found.
    if parameters.keys() - {"user_id"}:
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


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """A part of the document, or what it refers to."""
    while "$ref" in part:
        at: Any = DOCUMENT
        for name in part["$ref"].removeprefix("#/").split("/"):
            at = at[name]
        part = at
    return part


def responses_of(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """An operation's responses by their status."""
    return {status: resolved(response) for status, response in operation["responses"].items()}


def examples_of(content: dict[str, Any]) -> list[Any]:
    """The examples of a body, of its own or of its schema."""
    if "examples" in content:
        return [example["value"] for example in content["examples"].values()]
    return [content["example"]] if "example" in content else resolved(content["schema"]).get("examples", [])


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """A validator of one of the document's schemas, formats included."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]}, validate_formats=True)


def test_the_document_is_valid_openapi_3_1() -> None:
    # A token's URL may be relative (section 4.6), and the schema says so since 2025 (OAI/OpenAPI-Specification#4327); this copy is older.
    schema = json.loads(json.dumps(OPENAPI_31).replace('"tokenUrl": {"type": "string", "format": "uri"}', '"tokenUrl": {"type": "string"}'))
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(DOCUMENT)


def test_the_document_on_file_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "openapi.json"
    assert page.read_text(encoding="utf-8") == openapi_page(), "run `make docs`"


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
    responses = responses_of(OPERATIONS[name])
    for status, problem in statuses_to_expect(OPERATIONS[name]):
        assert problem in responses[str(status)]["content"]["application/problem+json"]["examples"], (status, problem)


@EVERY_OPERATION
def test_every_declared_problem_has_an_example_that_is_one(operation: dict[str, Any]) -> None:
    for status, response in responses_of(operation).items():
        if int(status) < 400 or operation["operationId"] == "get_readiness":
            continue
        assert response["description"]
        content = response["content"]["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        for problem, example in content["examples"].items():
            assert example["value"].keys() <= PROBLEM_SCHEMA["properties"].keys()
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


@EVERY_OPERATION
def test_every_body_has_an_example_that_is_one(operation: dict[str, Any]) -> None:
    bodies = [operation["requestBody"]] if "requestBody" in operation else []
    bodies += [response for status, response in responses_of(operation).items() if status != "204"]
    for body in bodies:
        for content in body["content"].values():
            assert content["schema"]
            assert examples_of(content)
            for example in examples_of(content):
                validator(content["schema"]).validate(example)


def test_an_empty_answer_has_no_body() -> None:
    assert all("content" not in response for operation in OPERATIONS.values() for response in (operation["responses"].get("204", {}),))
    assert OPERATIONS["GET /metrics"]["responses"]["200"]["content"].keys() == {"text/plain"}


def test_a_parameter_cannot_be_null() -> None:
    parameters = [parameter["schema"] for operation in OPERATIONS.values() for parameter in operation.get("parameters", ())]
    assert not [schema for schema in parameters if "null" in json.dumps(schema)]


def test_what_was_made_links_to_all_that_can_be_done_with_it() -> None:
    targets = {operation["operationId"]: operation for operation in OPERATIONS.values()}
    links = {
        (operation["operationId"], name): link
        for operation in OPERATIONS.values()
        for response in responses_of(operation).values()
        for name, link in response.get("links", {}).items()
    }
    for (_, name), link in links.items():
        target = targets[link["operationId"]]
        assert name == link["operationId"]
        assert link.get("parameters", {}).keys() <= {parameter["name"] for parameter in target["parameters"]}
    one = {name for name, operation in targets.items() if any(each["in"] == "path" for each in operation.get("parameters", ()))}
    assert {target for _, target in links} == one | {"create_adjustment", "create_reservation"}


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
